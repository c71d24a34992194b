// A Probot App that receives what our GitHub sends, and answers every push with a commit status as its installation.
import { answer, input } from "./input.mjs";
import { pino } from "pino";
import { Probot, Server } from "probot";

const { appId, privateKey, secret, baseUrl, port } = input;
const log = pino({ level: "silent" });

const server = new Server({
  port,
  host: "127.0.0.1",
  log,
  Probot: Probot.defaults({ appId, privateKey, secret, baseUrl, log }),
});
await server.load((app) => {
  app.onAny((context) => answer({ event: context.name, action: context.payload.action ?? null, id: context.id }));
  app.on("push", async (context) => {
    const { owner, repo } = context.repo();
    const created = await context.octokit.request("POST /repos/{owner}/{repo}/statuses/{sha}", {
      owner,
      repo,
      sha: context.payload.after,
      state: "success",
      context: "probot",
    });
    answer({ status: created.status, repo });
  });
});
await server.start();
answer({ listening: port });
process.on("SIGTERM", () => server.stop().then(() => process.exit(0)));
