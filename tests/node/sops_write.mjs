// A SOPS file for our backend: typage (age-encryption) wraps the data key, Node seals the values, sops-age opens the result first.
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { answer, input } from "./input.mjs";
import { armor, Encrypter, generateIdentity, identityToRecipient } from "age-encryption";
import { decryptSops } from "sops-age";
import { stringify } from "yaml";

const identity = await generateIdentity();
const recipient = await identityToRecipient(identity);
const key = randomBytes(32);
const hash = createHash("sha512");
const spelled = (value) => (typeof value === "boolean" ? (value ? "True" : "False") : String(value));
const typeOf = (value) => (typeof value === "boolean" ? "bool" : typeof value === "number" ? (Number.isInteger(value) ? "int" : "float") : "str");

function seal(value, boundTo) {
  const iv = randomBytes(32);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  cipher.setAAD(Buffer.from(boundTo));
  const data = Buffer.concat([cipher.update(spelled(value)), cipher.final()]).toString("base64");
  return `ENC[AES256_GCM,data:${data},iv:${iv.toString("base64")},tag:${cipher.getAuthTag().toString("base64")},type:${typeOf(value)}]`;
}

function walk(node, path) {
  if (Array.isArray(node)) return node.map((each) => walk(each, path));
  if (node !== null && typeof node === "object") return Object.fromEntries(Object.entries(node).map(([name, each]) => [name, walk(each, [...path, name])]));
  hash.update(spelled(node));
  return seal(node, path.join(":") + ":");
}

const body = walk(input.tree, []);
const encrypter = new Encrypter();
encrypter.addRecipient(recipient);
const lastmodified = "2026-11-27T10:00:00Z";
body.sops = {
  age: [{ recipient, enc: armor.encode(await encrypter.encrypt(key)) }],
  lastmodified,
  mac: seal(hash.digest("hex").toUpperCase(), lastmodified),
  unencrypted_suffix: "_unencrypted",
  version: "3.11.0",
};
const document = input.fileType === "json" ? JSON.stringify(body, null, 2) : stringify(body);
const opened = await decryptSops(document, { secretKey: identity, fileType: input.fileType });
answer({ identity, document, opened });
