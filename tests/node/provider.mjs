// An OpenID provider (oidc-provider): its own pages take any name and password, and put groups and address into the ID token.
import { answer, input } from "./input.mjs";
import Provider from "oidc-provider";

const { issuer, port, clientId, clientSecret, redirectUri } = input;
const people = {
  ada: { email: "Ada@example.com", email_verified: true, groups: ["platform", "release-managers"] },
  otto: { email: "otto@example.com", email_verified: false, groups: ["platform"] },
  eve: { email: "eve@example.com", email_verified: true, groups: [] },
};
const provider = new Provider(issuer, {
  clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri] }],
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
  claims: { openid: ["sub", "groups"], email: ["email", "email_verified"], profile: [] },
  conformIdTokenClaims: false,
  cookies: { keys: ["only-for-this-test"] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
});
provider.on("server_error", (_, error) => console.error(error));
const server = provider.listen(port, "127.0.0.1", () => answer({ listening: port }));
process.on("SIGTERM", () => { server.closeAllConnections(); process.exit(0); });
