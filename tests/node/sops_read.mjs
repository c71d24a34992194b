// sops-age opens a file that our tests encrypted.
import { answer, input } from "./input.mjs";
import { decryptSops } from "sops-age";

answer(await decryptSops(input.document, { secretKey: input.identity, fileType: input.fileType }));
