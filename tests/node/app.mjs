// A GitHub App as @octokit/auth-app is one: JSON web token, installation, narrowed tokens, pages, refusals.
import { answer, input, refusal } from "./input.mjs";
import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/core";
import { paginateRest } from "@octokit/plugin-paginate-rest";

const { baseUrl, clientId, privateKey, account, repository, perPage } = input;
const warnings = [];
const log = { debug() {}, info() {}, warn: (text) => warnings.push(text), error() {} };
const Client = Octokit.plugin(paginateRest).defaults({ baseUrl, log });
const as = (auth) => new Client({ authStrategy: createAppAuth, auth: { appId: clientId, privateKey, ...auth } });

const app = as({});
const me = (await app.request("GET /app")).data;
const installation = (await app.request("GET /orgs/{org}/installation", { org: account })).data;
const ofRepository = (await app.request("GET /repos/{owner}/{repo}/installation", { owner: account, repo: repository })).data;
const installations = await app.paginate("GET /app/installations", { per_page: 1 });

const wide = as({ installationId: installation.id });
const all = await wide.paginate("GET /installation/repositories", { per_page: perPage });

const narrowed = { type: "installation", installationId: installation.id, repositoryNames: [repository], permissions: { contents: "read" } };
const token = await app.auth(narrowed);
const again = await app.auth(narrowed);
const fresh = await app.auth({ ...narrowed, refresh: true });
const narrow = new Client({ auth: token.token });
const seen = await narrow.paginate("GET /installation/repositories", { per_page: 1 });
const refused = await refusal(() =>
  narrow.request("POST /repos/{owner}/{repo}/hooks", { owner: account, repo: repository, config: { url: "https://hooks.example.com" } }),
);
const ungranted = await refusal(() => app.auth({ ...narrowed, permissions: { administration: "write" } }));
const outside = await refusal(() => app.auth({ ...narrowed, repositoryNames: ["nowhere"] }));
const revoked = await narrow.request("DELETE /installation/token");
const after = await refusal(() => narrow.request("GET /installation/repositories"));

answer({
  slug: me.slug,
  installation: installation.id,
  ofRepository: ofRepository.id,
  installations: installations.map((each) => each.id),
  all: all.map((each) => each.full_name),
  token: {
    length: token.token.length,
    permissions: token.permissions,
    selection: token.repositorySelection,
    names: token.repositoryNames,
    ends: token.expiresAt,
    cached: again.token === token.token,
    renewed: fresh.token !== token.token,
  },
  seen: seen.map((each) => each.full_name),
  refused,
  ungranted,
  outside,
  revoked: revoked.status,
  after,
  warnings,
});
