"""The table of stable error codes: one owner. ``docs/errors/<code>.md`` is made from it, and a test holds the two together.

Ranges: 10xx YAML and documents, 11xx schema, 12xx references and meaning, 13xx expressions and templates, 20xx source,
30xx command line and configuration, 40xx credentials, 50xx providers and HTTP, 60xx plan and apply, 70xx state,
80xx server and events, 90xx defects of this program.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One code: what it means, what usually causes it, and what to do."""

    id: str
    title: str
    cause: str
    fix: str


_TABLE = (
    # 10xx YAML and documents
    Code("RC1001", "The manifests are not valid", "One or more problems were found; each is listed with its own code.",
         "Mend the listed problems; `reconciler validate` shows them all at once."),
    # 11xx schema
    # 12xx references and meaning
    # 13xx expressions and templates
    # 20xx source
    Code("RC2001", "The source cannot be read", "The Git remote or the folder did not answer as it should.",
         "The last good revision stays in force. `reconciler doctor` names what is wrong."),
    Code("RC2002", "The source is not reachable", "The remote refused the connection, has no such name, or answered with an error; or the folder is gone.",
         "It is tried again by itself; the last good revision stays in force. Check `source.url` if it lasts."),
    Code("RC2003", "The source refused the credential", "The token or key is wrong, expired, or may not read the repository.",
         "Mend the file that `source.auth` names; it is read again at every fetch."),
    Code("RC2004", "The branch does not exist", "It was deleted or renamed at the remote.",
         "Restore it, or name the new one in `source.branch`. Nothing is deleted meanwhile."),
    Code("RC2005", "The revision holds no manifest", "All manifests were removed, or are in another folder.",
         "Restore them or mend `source.path`; set `source.allowEmpty: true` if all is to be deleted."),
    Code("RC2006", "The folder of the manifests is gone", "`source.path` is no folder in the newest revision.",
         "Restore it, or name the new one in `source.path`. Nothing is deleted meanwhile."),
    Code("RC2007", "Git's check refused the revision", "It holds names such as `..` or `.git`, or damaged objects.",
         "Remove them from the branch's history. Nothing of the revision was read."),
    Code("RC2008", "The source did not answer in time", "The remote accepted the connection and went silent, or is very slow.",
         "It is tried again by itself; nothing of the attempt is left running."),
    Code("RC2009", "The source is too large", "A manifest, a revision or the repository is over its bound.",
         "Name the manifests' folder in `source.path`, ignore what is no manifest in `.reconcilerignore`, or use a repository of their own."),
    Code("RC2010", "History was rewritten", "The branch's head does not follow the last accepted one, and `source.requireFastForward` is set.",
         "Restore the branch, or allow it for one fetch."),
    Code("RC2011", "The repository belongs to another user", "Its configuration is not to be trusted by this process.",
         "Give the folder to the user that the process runs as (the message has the command)."),
    Code("RC2012", "The SSH host key is not the known one", "The host is another, or its key was changed.",
         "Compare with the key that the provider publishes, then replace the line in `source.auth.knownHostsFile`."),
    Code("RC2013", "A manifest is a Git LFS pointer", "The file is kept in Git LFS, which is never fetched.",
         "Store manifests in Git itself, or name the file in `.reconcilerignore`."),
    Code("RC2014", "The revision is not signed as required", "A commit has no signature by an allowed signer, or the key is expired or revoked.",
         "Sign the commit with an allowed key. The last good revision stays in force."),
    Code("RC2015", "The source's configuration is refused", "`source.url` or `source.path` has a value that is not safe to use.",
         "Follow the message: no credentials in the URL, https or ssh, a folder inside the repository."),
    Code("RC2016", "The revision is unknown", "No branch, tag or commit of that name is in the source.", "Check the spelling, or fetch it first."),
    Code("RC2017", "The remote answers with a redirect", "The repository was moved; redirects are never followed with a credential.",
         "Write its new address into `source.url`."),
    Code("RC2018", "The mirror is damaged", "The copy of the repository in the state folder cannot be read.",
         "Nothing: it is cloned again by itself. Check the disk if it happens again."),
    # 30xx command line and configuration
    Code("RC3001", "Wrong usage", "The command line has an unknown verb, option or value.", "Run `reconciler VERB --help`."),
    Code("RC3010", "The configuration is not valid", "A key is unknown, missing or has a wrong value.",
         "Mend the named key in reconciler.yaml or the environment; docs/configuration.md lists all."),
    # 40xx credentials
    Code("RC4001", "A secret value is missing", "The environment variable, file or backend that a Secret names has no value.",
         "Provide the value; what uses it is tried again by itself. Nothing remote is touched meanwhile."),
    # 50xx providers and HTTP
    Code("RC5001", "A provider call failed", "The provider refused or did not answer a request.", "See the message; it is tried again by itself."),
    Code("RC5011", "The credential was refused (401)", "The token is wrong, expired or revoked.",
         "Provide a valid token; only this integration waits, the others go on."),
    Code("RC5012", "A permission is missing (403)", "The credential is valid but may not do this.",
         "Grant the permission that the message names."),
    Code("RC5013", "The object was not found (404)", "It was deleted at the provider, or the credential may not see it.",
         "Nothing to do when it was deleted: it is looked for in a complete list and made again."),
    Code("RC5014", "The scope was not found (404)", "The repository, organization or workspace is gone, renamed, or out of the credential's reach.",
         "Check the name in the manifest and the credential's access. Nothing is pruned on it."),
    Code("RC5015", "The provider reports a conflict", "Another object has the same name or URL, or it changed meanwhile.",
         "If it is foreign, delete it or set `lifecycle.adopt`; else it is settled by itself."),
    Code("RC5016", "The provider refused the values", "A value in the manifest is not one that the provider takes.",
         "Mend the manifest; it is not tried again before the spec changes."),
    Code("RC5017", "The provider's rate limit is reached", "Too many requests with this credential.",
         "Wait: work goes on by itself at the time shown."),
    Code("RC5018", "The resource was renamed at the provider", "The provider answered with a redirect to the new name.",
         "Write the new name into the manifest; until then the redirect is followed by id."),
    Code("RC5019", "The provider is not available", "Connection refused, name not found, or a 5xx answer to a read.",
         "It is tried again with growing pauses."),
    Code("RC5020", "The outcome of a write is unknown", "The connection ended after the request was sent.",
         "Nothing: it is listed and settled by itself before anything else is written."),
    Code("RC5021", "The provider's answer is not understood", "Not JSON, too large, or of another shape than its API promises.",
         "Check `apiUrl`: a proxy or a login page may stand there."),
    Code("RC5022", "TLS refused", "The certificate or the protocol version was not accepted.",
         "Mend the certificate, or name your CA in `network.caBundle`."),
    Code("RC5023", "The address is not allowed", "The host is not the provider's own, or it resolves to an address that is not public.",
         "Allow the host or CIDR in the configuration's `network.allow` if it is meant."),
    # 60xx plan and apply
    Code("RC6001", "The world moved since the plan was made", "What would be done is not what `--plan` names.",
         "Review the difference that was printed, then apply with the new digest."),
    # 70xx state
    Code("RC7001", "The state cannot be used", "The database is damaged, newer than this program, or held by another process.",
         "Follow the message; `reconciler doctor` checks it."),
    # 80xx server and events
    # 90xx defects
    Code("RC9001", "A defect of this program", "Something happened that the code does not provide for.",
         "Please report it with the log line; no remote write is repeated blindly."),
)

CODES: dict[str, Code] = {code.id: code for code in _TABLE}
