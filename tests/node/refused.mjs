// What GitHub answers @octokit/auth-app for a key that is not the App's, or for an installation that gives no token.
import { answer, input, refusal } from "./input.mjs";
import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/core";

const { baseUrl, clientId, privateKey, installation } = input;
const app = new Octokit({ authStrategy: createAppAuth, auth: { appId: clientId, privateKey }, baseUrl });
const said = async (call) => {
  const refused = await refusal(call);
  return refused && { status: refused.status, message: refused.message };
};

answer({
  app: await said(() => app.request("GET /app")),
  token: installation ? await said(() => app.auth({ type: "installation", installationId: installation })) : null,
});
