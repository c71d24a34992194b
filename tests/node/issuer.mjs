// A relying party: openid-client discovers our issuer, and jose verifies the tokens with the keys that it publishes.
import { answer, input } from "./input.mjs";
import { createRemoteJWKSet, customFetch, decodeProtectedHeader, jwtVerify } from "jose";
import * as oidc from "openid-client";

const { issuer, tokens, audience } = input;
const config = await oidc.discovery(new URL(issuer), "relying-party", undefined, oidc.None(), { execute: [oidc.allowInsecureRequests] });
const metadata = config.serverMetadata();
let fetched = 0;
const counted = (url, options) => {
  fetched += 1;
  return fetch(url, options);
};
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), { cooldownDuration: 0, [customFetch]: counted });
const published = await (await fetch(metadata.jwks_uri)).json();
const algorithms = metadata.id_token_signing_alg_values_supported;

async function verified(token, options) {
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, { issuer, audience, algorithms, ...options });
    return { claims: payload, header: protectedHeader };
  } catch (error) {
    return { refused: error.code, claim: error.claim ?? null };
  }
}

answer({
  metadata,
  fields: [...new Set(published.keys.flatMap((key) => Object.keys(key)))].sort(),
  tokens: await Promise.all(tokens.map((token) => verified(token, {}))),
  kids: tokens.map((token) => decodeProtectedHeader(token).kid),
  otherAudience: await verified(tokens[0], { audience: "another" }),
  otherIssuer: await verified(tokens[0], { issuer: `${issuer}/` }),
  late: await verified(tokens[0], { currentDate: new Date(Date.now() + 3_600_000) }),
  early: await verified(tokens[0], { currentDate: new Date(Date.now() - 3_600_000) }),
  changed: await verified(tokens[0].slice(0, -8) + "AAAAAAAA", {}),
  fetched,
});
