// A sender of webhooks that signs with GitHub's own library (@octokit/webhooks-methods).
import { randomUUID } from "node:crypto";
import { answer, input } from "./input.mjs";
import { sign } from "@octokit/webhooks-methods";

const { url, secret, event, payload } = input;
const body = JSON.stringify(payload);
const headers = { "content-type": "application/json", "x-github-event": event };
const send = async (signature, guid) =>
  (await fetch(url, { method: "POST", body, headers: { ...headers, "x-github-delivery": guid, "x-hub-signature-256": signature } })).status;

answer({
  signed: await send(await sign(secret, body), randomUUID()),
  foreign: await send(await sign(`${secret}-of-another`, body), randomUUID()),
});
