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
    Code(
        "RC1001",
        "The manifests are not valid",
        "One or more problems were found; each is listed with its own code.",
        "Mend the listed problems; `reconciler validate` shows them all at once.",
    ),
    Code(
        "RC1002",
        "The file is too large",
        "A manifest has more than 1 MiB.",
        "Split it, or name it in `.reconcilerignore` if it is no manifest.",
    ),
    Code(
        "RC1003",
        "The file is not UTF-8",
        "It has another encoding, or starts with a byte order mark.",
        "Save it as UTF-8 without a byte order mark.",
    ),
    Code(
        "RC1004",
        "A character is not allowed",
        "A control, zero-width or bidirectional character, or a key with a twin that looks the same.",
        "Remove the character that the message names; type the text anew.",
    ),
    Code(
        "RC1005",
        "Not valid YAML",
        "The indentation, a quote or a bracket is not as YAML wants it.",
        "Look at the place and just before it. Other documents of the file are still checked.",
    ),
    Code(
        "RC1006",
        "A part of YAML that manifests do not use",
        "An anchor, alias, merge key, tag or directive.",
        "Write the value out. Text that starts with `&`, `*`, `!` or `%` needs quotes.",
    ),
    Code(
        "RC1007",
        "A key is given twice",
        "Two equal keys in one mapping; YAML readers silently keep one of them.",
        "Keep one of them.",
    ),
    Code(
        "RC1008",
        "A bound of the loader is reached",
        "More than 32 levels, 50,000 nodes or 1,000 documents in a file.",
        "Split the file, or name it in `.reconcilerignore` if it is no manifest.",
    ),
    Code(
        "RC1009",
        "One mapping is expected",
        "The configuration file holds a list, text or several documents.",
        "Write one mapping; docs/configuration.md lists the keys.",
    ),
    Code(
        "RC1010",
        "A key is not a string",
        "A number, true, false, null, a list or a mapping stands where a key is expected.",
        "Put the key in quotes.",
    ),
    Code(
        "RC1011",
        "A number is out of range",
        "An integer has more than 64 bits, or a number is larger than a double holds.",
        "Put it in quotes if it is text, such as an id or a commit.",
    ),
    Code(
        "RC1012",
        "The document is no manifest",
        "It is a list or text; a manifest is a mapping with kind, metadata and spec.",
        "Mend it, or name the file in `.reconcilerignore`.",
    ),
    Code(
        "RC1013",
        "The document has no kind",
        "A YAML file that is no manifest lies below `source.path`, or the key was forgotten.",
        "Add `kind`, or name the file in `.reconcilerignore`.",
    ),
    Code(
        "RC1014",
        "The kind is unknown",
        "It is misspelt, or belongs to another tool.",
        "Use one of the kinds of docs/manifests.md, or name the file in `.reconcilerignore`.",
    ),
    Code(
        "RC1015",
        "A credential stands in a manifest",
        "Text has the form of a token or private key of a known provider.",
        "Revoke it, since Git keeps it; put a new one into a secret backend and refer to it with `valueFrom`.",
    ),
    # 11xx schema
    Code(
        "RC1100",
        "Unknown key",
        "A key is misspelt, or stands at the wrong level.",
        "The message names the nearest known key; docs/manifests.md lists all.",
    ),
    Code(
        "RC1101",
        "Against a rule of the schema",
        "A value is too long, too short, too small, too large, or stands twice.",
        "Follow the message; `reconciler schema KIND` prints the schema.",
    ),
    Code("RC1102", "A key is missing", "A required key is not there.", "Add it; docs/manifests.md has an example of every kind."),
    Code(
        "RC1103",
        "Not one of the allowed values",
        "A word is misspelt or not known.",
        "Use one of the values that the message lists.",
    ),
    Code(
        "RC1104",
        "A value of the wrong type",
        "Text where a number is wanted, a literal where a reference is wanted, or the reverse.",
        "Put numbers and true/false in quotes if they are text; give credentials with `valueFrom`.",
    ),
    Code(
        "RC1105",
        "Text of the wrong form",
        "A name, duration, URL, time or ARN does not have the form that is wanted.",
        "The message shows the form.",
    ),
    Code(
        "RC1106",
        "One of several forms is wanted",
        "None of the alternatives is given, or more than one.",
        "Give exactly one of the keys that the message lists.",
    ),
    Code("RC1107", "A key has no meaning here", "The key belongs to another type or provider.", "Remove it."),
    # 12xx references and meaning
    Code("RC1201", "Not a time", "A time is not written as RFC 3339.", "For example 2030-01-31T00:00:00Z."),
    Code(
        "RC1202",
        "A literal secret in Git",
        "A Secret of provider `local` stands in a repository.",
        "Use provider `env` or `file`; change the value if it was a real one.",
    ),
    Code(
        "RC1203",
        "A part is missing for this type",
        "A type, scope or form of authentication needs another key or block.",
        "Add what the message names.",
    ),
    Code(
        "RC1204",
        "The path leaves its folder",
        "A path of a Secret is absolute or has `..` in it.",
        "Write it relative to `secrets.folder`.",
    ),
    Code(
        "RC1205",
        "The provider cannot authenticate in this way",
        "The form of authentication is not one that the provider has.",
        "Use one of those that the message lists.",
    ),
    Code(
        "RC1206",
        "Two keys that do not go together",
        "A key belongs to another type or scope than the one given.",
        "Remove one of them.",
    ),
    Code(
        "RC1207",
        "Not a schedule",
        "A cron line, or a time zone, is not valid.",
        "Five fields (minute, hour, day, month, weekday) and an IANA name such as Europe/Berlin.",
    ),
    Code(
        "RC1208",
        "A name is given twice",
        "Two inputs, outputs, secrets, connections or mappings have one name.",
        "Rename or remove one.",
    ),
    Code(
        "RC1209",
        "An input gets no value",
        "A mapping leaves an input out, or an event of a connection has no mapping.",
        "Give every input a value in every mapping, or use one mapping without `when`.",
    ),
    Code(
        "RC1210",
        "A name that the stage does not have",
        "A mapping names an input or a connection that is not declared in the stage.",
        "Declare it, or mend the name.",
    ),
    Code(
        "RC1211",
        "Declared more than once",
        "Two documents have the same kind, canvas and name; both are refused, since neither is known to be right.",
        "Keep one, or change the name or canvas of one.",
    ),
    Code(
        "RC1212",
        "The reference is not found",
        "There is no resource of that name in the same canvas or in `default`.",
        "Mend the name, or declare it. No other canvas is looked into.",
    ),
    Code(
        "RC1213",
        "The reference is of the wrong type",
        "The integration found is of another provider than is needed.",
        "Name an integration of the right type.",
    ),
    Code(
        "RC1214",
        "The Secret has no such key",
        "The key of a reference is not one of the Secret's keys.",
        "Mend the key, or add it to the Secret.",
    ),
    Code(
        "RC1215",
        "Connections run in a circle",
        "Stages would start each other for ever.",
        "Remove one of the connections that the message lists.",
    ),
    Code(
        "RC1216",
        "The former name is still declared",
        "`movedFrom` names a resource that still has a manifest.",
        "Delete the old manifest, or remove `movedFrom`.",
    ),
    Code(
        "RC1265",
        "What is run is left to the event without bounds",
        "`executor.resource.name` is a template, and `executor.allow` does not list what it may become.",
        "Add `executor.allow` with names or patterns: `allow: [web, 'svc-*']`.",
    ),
    Code(
        "RC1255",
        "A user is given by a display name",
        "Anyone can give himself the display name of someone else, and would get that user's rights.",
        "Give the `email`, or the `id`.",
    ),
    Code(
        "RC1275",
        "A value of an event that did not come",
        "A mapping reads the event of one connection and is used for events of another: each of those would fail.",
        "Give each connection a mapping of its own with `when: {triggeredBy: {connection: NAME}}`.",
    ),
    Code(
        "RC1276",
        "A name or URL that the provider cannot have",
        "A name, a path or the URL of an account has a form that nothing at this provider has.",
        "Write it as the provider shows it; the message has an example.",
    ),
    Code(
        "RC1277",
        "An event that the provider does not send",
        "The type of an event is none that a webhook of this provider can ask for.",
        "Use one of the provider's own names; the message lists them, or the nearest one.",
    ),
    Code(
        "RC1278",
        "It can never happen",
        "A schedule names no date that exists, more approvals are needed than people may give, or a time or list leaves nothing.",
        "Correct the value that the message names.",
    ),
    Code(
        "RC1279",
        "A URL that is not called",
        "It holds a user name or password, cannot be read, or names an address that `network.allow` does not open.",
        "Send credentials by `auth` or a header; add an address that is meant to `network.allow`.",
    ),
    # 13xx expressions and templates
    Code(
        "RC1301",
        "The expression does not compile",
        "A CEL expression has a mistake; the message says at which character.",
        "Mend it. `$` is the payload, `headers` the request's headers.",
    ),
    Code(
        "RC1302",
        "The template names nothing",
        "A template is no dotted look-up, or names an input or secret that the stage does not have.",
        "Use inputs.NAME, secrets.NAME or event.PATH.",
    ),
    Code(
        "RC1303",
        "Not a regular expression",
        "A pattern is not one of RE2, which has no look-around and no back-references.",
        "Mend the pattern.",
    ),
    # 20xx source
    Code(
        "RC2001",
        "The source cannot be read",
        "The Git remote or the folder did not answer as it should.",
        "The last good revision stays in force. `reconciler doctor` names what is wrong.",
    ),
    Code(
        "RC2002",
        "The source is not reachable",
        "The remote refused the connection, has no such name, or answered with an error; or the folder is gone.",
        "It is tried again by itself; the last good revision stays in force. Check `source.url` if it lasts.",
    ),
    Code(
        "RC2003",
        "The source refused the credential",
        "The token or key is wrong, expired, or may not read the repository.",
        "Mend the file that `source.auth` names; it is read again at every fetch.",
    ),
    Code(
        "RC2004",
        "The branch does not exist",
        "It was deleted or renamed at the remote.",
        "Restore it, or name the new one in `source.branch`. Nothing is deleted meanwhile.",
    ),
    Code(
        "RC2005",
        "The revision holds no manifest",
        "All manifests were removed, or are in another folder.",
        "Restore them or mend `source.path`; set `source.allowEmpty: true` if all is to be deleted.",
    ),
    Code(
        "RC2006",
        "The folder of the manifests is gone",
        "`source.path` is no folder in the newest revision.",
        "Restore it, or name the new one in `source.path`. Nothing is deleted meanwhile.",
    ),
    Code(
        "RC2007",
        "Git's check refused the revision",
        "It holds names such as `..` or `.git`, or damaged objects.",
        "Remove them from the branch's history. Nothing of the revision was read.",
    ),
    Code(
        "RC2008",
        "The source did not answer in time",
        "The remote accepted the connection and went silent, or is very slow.",
        "It is tried again by itself; nothing of the attempt is left running.",
    ),
    Code(
        "RC2009",
        "The source is too large",
        "A manifest, a revision or the repository is over its bound.",
        "Name the manifests' folder in `source.path`, ignore what is no manifest in `.reconcilerignore`, or use a repository "
        "of their own.",
    ),
    Code(
        "RC2010",
        "History was rewritten",
        "The branch's head does not follow the last accepted one, and `source.requireFastForward` is set.",
        "Restore the branch, or allow it for one fetch.",
    ),
    Code(
        "RC2011",
        "The repository belongs to another user",
        "Its configuration is not to be trusted by this process.",
        "Give the folder to the user that the process runs as (the message has the command).",
    ),
    Code(
        "RC2012",
        "The SSH host key is not the known one",
        "The host is another, or its key was changed.",
        "Compare with the key that the provider publishes, then replace the line in `source.auth.knownHostsFile`.",
    ),
    Code(
        "RC2013",
        "A manifest is a Git LFS pointer",
        "The file is kept in Git LFS, which is never fetched.",
        "Store manifests in Git itself, or name the file in `.reconcilerignore`.",
    ),
    Code(
        "RC2014",
        "The revision is not signed as required",
        "A commit has no signature by an allowed signer, or the key is expired or revoked.",
        "Sign the commit with an allowed key. The last good revision stays in force.",
    ),
    Code(
        "RC2015",
        "The source's configuration is refused",
        "`source.url` or `source.path` has a value that is not safe to use.",
        "Follow the message: no credentials in the URL, https or ssh, a folder inside the repository.",
    ),
    Code(
        "RC2016",
        "The revision is unknown",
        "No branch, tag or commit of that name is in the source.",
        "Check the spelling, or fetch it first.",
    ),
    Code(
        "RC2017",
        "The remote answers with a redirect",
        "The repository was moved; redirects are never followed with a credential.",
        "Write its new address into `source.url`.",
    ),
    Code(
        "RC2018",
        "The mirror is damaged",
        "The copy of the repository in the state folder cannot be read.",
        "Nothing: it is cloned again by itself. Check the disk if it happens again.",
    ),
    Code(
        "RC2045",
        "Something that may hold manifests was not read",
        "A link, a submodule, or a file of another name stands where manifests are or were; it is never followed or fetched.",
        "Put the manifests there as regular `*.yaml` files, name it in `.reconcilerignore`, or remove it. Until then nothing is deleted.",
    ),
    # 30xx command line and configuration
    Code("RC3001", "Wrong usage", "The command line has an unknown verb, option or value.", "Run `reconciler VERB --help`."),
    Code(
        "RC3010",
        "The configuration is not valid",
        "A key is unknown, missing or has a wrong value.",
        "Mend the named key in reconciler.yaml or the environment; docs/configuration.md lists all.",
    ),
    Code(
        "RC3002",
        "Files exist already",
        "`reconciler init` found files of the names that it would write.",
        "Name another folder, or use `--force` to overwrite them. Nothing was written.",
    ),
    Code(
        "RC3020",
        "The daemon's public address is not configured",
        "An EventSource makes a webhook or notification that sends to this daemon, and server.publicUrl is empty.",
        "Set `server.publicUrl` to the https URL at which providers reach the daemon; nothing remote is made before.",
    ),
    Code(
        "RC3075",
        "The output cannot be written",
        "What stdout goes to refuses it: a full disk, a device that failed. A reader that only left (`| head`) is no error.",
        "Write it to another place. What the verb does besides printing was done; its exit code says how it ended.",
    ),
    # 40xx credentials
    Code(
        "RC4001",
        "A secret value is missing",
        "The environment variable, file or backend that a Secret names has no value.",
        "Provide the value; what uses it is tried again by itself. Nothing remote is touched meanwhile.",
    ),
    Code(
        "RC4002",
        "A Secret names what may not be read",
        "The environment variable is not one of `secrets.env`, the path leaves the secrets folder, or the file is too large "
        "or no text.",
        "Add the name to `secrets.env`, or name a text file of at most 64 KiB inside `secrets.folder`.",
    ),
    Code(
        "RC4003",
        "A literal secret in a manifest",
        "A Secret of provider `local` holds its values in Git.",
        "Use provider `env` or `file`. `local` works only with `sandbox: true`, for trials; change a value that was committed.",
    ),
    Code(
        "RC4004",
        "The secret provider is not part of this version",
        "The Secret names `vault` or `sops`, which are validated but not read yet.",
        "Use provider `env` or `file`.",
    ),
    Code(
        "RC4010",
        "The master key cannot be had",
        "The key file is missing, cannot be read, or cannot be made.",
        "Put the file back from its backup. A new key is made only where neither a state nor a key exists.",
    ),
    Code(
        "RC4011", "The master key is not a key", "The file is not base64 of 32 bytes.", "Put the right file back from its backup."
    ),
    Code(
        "RC4012",
        "The master key is another one",
        "The state was made with another key, and it is not in `masterKey.previousFile` either.",
        "Put the right key back, or name the old one in `masterKey.previousFile` while you change it. Nothing is re-keyed by "
        "itself.",
    ),
    Code(
        "RC4013",
        "The master key is readable by others",
        "The key file has a mode wider than 0600, or belongs to another user.",
        "Run the `chmod` or `chown` that the message names.",
    ),
    # 50xx providers and HTTP
    Code(
        "RC5001",
        "A provider call failed",
        "The provider refused or did not answer a request.",
        "See the message; it is tried again by itself.",
    ),
    Code(
        "RC5011",
        "The credential was refused (401)",
        "The token is wrong, expired or revoked.",
        "Provide a valid token; only this integration waits, the others go on.",
    ),
    Code(
        "RC5012",
        "A permission is missing (403)",
        "The credential is valid but may not do this.",
        "Grant the permission that the message names.",
    ),
    Code(
        "RC5013",
        "The object was not found (404)",
        "It was deleted at the provider, or the credential may not see it.",
        "Nothing to do when it was deleted: it is looked for in a complete list and made again.",
    ),
    Code(
        "RC5014",
        "The scope was not found (404)",
        "The repository, organization, workspace or project is gone, renamed, or out of the credential's reach.",
        "Check the name in the manifest and the credential's access. Nothing is pruned on it.",
    ),
    Code(
        "RC5015",
        "The provider reports a conflict",
        "Another object has the same name or URL, or it changed meanwhile.",
        "If it is foreign, delete it or set `lifecycle.adopt`; else it is settled by itself.",
    ),
    Code(
        "RC5016",
        "The provider refused the values",
        "A value in the manifest is not one that the provider takes.",
        "Mend the manifest; it is not tried again before the spec changes.",
    ),
    Code(
        "RC5017",
        "The provider's rate limit is reached",
        "Too many requests with this credential.",
        "Wait: work goes on by itself at the time shown.",
    ),
    Code(
        "RC5018",
        "The resource was renamed at the provider",
        "The provider answered with a redirect to the new name.",
        "Write the new name into the manifest; until then the redirect is followed by id.",
    ),
    Code(
        "RC5019",
        "The provider is not available",
        "Connection refused, name not found, or a 5xx answer to a read.",
        "It is tried again with growing pauses.",
    ),
    Code(
        "RC5020",
        "The outcome of a write is unknown",
        "The connection ended after the request was sent.",
        "Nothing: it is listed and settled by itself before anything else is written.",
    ),
    Code(
        "RC5021",
        "The provider's answer is not understood",
        "Not JSON, too large, or of another shape than its API promises.",
        "Check `apiUrl`: a proxy or a login page may stand there.",
    ),
    Code(
        "RC5022",
        "TLS refused",
        "The certificate or the protocol version was not accepted.",
        "Mend the certificate, or name your CA in `network.caBundle`.",
    ),
    Code(
        "RC5023",
        "The address is not allowed",
        "The host is not the provider's own, or it resolves to an address that is not public.",
        "Allow the host or CIDR in the configuration's `network.allow` if it is meant.",
    ),
    Code(
        "RC5024",
        "Whether a run was started cannot be told",
        "The start was interrupted, and the provider shows runs of which none carries the execution's id.",
        "Look at the runs that the message names. Put the id into the workflow's `run-name` (see docs/stages.md), then rerun.",
    ),
    Code(
        "RC5045",
        "Nothing can be changed there",
        "The repository is archived: GitHub shows its webhooks and refuses every change.",
        "Unarchive it, or take it out of the manifest; its webhook is then left as it is, and sends nothing.",
    ),
    Code(
        "RC5050",
        "The provider declined the request",
        "A limit, a quota, a lock, a suspended account or plan, a missing setting, or a proxy: nothing that a manifest can fix.",
        "Follow the provider's words in the message. It is tried again, rarely; `reconciler reconcile KIND/NAME` tries at once.",
    ),
    Code(
        "RC5051",
        "A list of the provider is too large",
        "All pages of one list together hold more bytes or items than one list may.",
        "Delete what is not needed at the provider, or name fewer targets in the manifest.",
    ),
    Code(
        "RC5052",
        "The provider's clock is unknown, or far from this host's",
        "The provider's answers have no `Date`, or the clock of this host is off: whether a run was started cannot be proved.",
        "Synchronize the host's clock (chrony or systemd-timesyncd); `reconciler doctor` shows the offset. "
        "A run in doubt is looked for and never started twice.",
    ),
    # 60xx plan and apply
    Code(
        "RC6001",
        "The world moved since the plan was made",
        "What would be done is not what `--plan` names.",
        "Review the difference that was printed, then apply with the new digest.",
    ),
    Code(
        "RC6040",
        "The plan moved while it was applied",
        "Between plan and call, or between two rounds, something at the provider, in the state or in a secret changed. What was approved "
        "was made, and nothing else.",
        "Run `reconciler plan` to review what became necessary, then `reconciler apply --plan sha256:…` with the digest that it prints.",
    ),
    Code(
        "RC6041",
        "A secret changed after the plan was made",
        "The value that would be written is not the one that the plan was made for.",
        "Nothing was written. Plan and apply again; the daemon does so by itself.",
    ),
    Code(
        "RC6010",
        "Not part of this version",
        "The manifest is valid, but this version has no driver for its type or its form of authentication.",
        "Nothing has to be mended: it is shown Stalled, reason NotImplemented, and nothing is done at the provider.",
    ),
    Code(
        "RC6011",
        "The integration is unknown",
        "It is neither declared nor kept in the state, so that nothing can be asked of its provider.",
        "Declare the Integration again until all that it owns is gone, or `reconciler forget` what is left.",
    ),
    Code(
        "RC6020",
        "No blocked set has this digest",
        "What is blocked changed since it was reviewed, or the digest is that of another plan.",
        "Run `reconciler plan` again, and approve the digest below `Blocked:`.",
    ),
    Code(
        "RC6021",
        "The resource is not suspended by command",
        "It was never suspended, or its manifest suspends it.",
        "Remove `lifecycle.suspend` from the manifest; `resume` ends only what `suspend` began.",
    ),
    Code(
        "RC6022",
        "The resource has nothing at a provider",
        "Its kind owns no remote object, so there is nothing to look at.",
        "Name an EventSource, a BuddyIntegration or an Integration.",
    ),
    Code(
        "RC6023",
        "Nothing is recorded",
        "The state knows no object of this resource.",
        "Check the spelling; `reconciler status` lists what is known.",
    ),
    Code(
        "RC6024",
        "The resource is still declared",
        "It would be found again by its marker at the next look.",
        "Remove the manifest first, with `deletionPolicy: Orphan`, then forget it.",
    ),
    Code(
        "RC6025",
        "No such resource",
        "No manifest and no state has a resource of this kind, name and canvas.",
        "Use one that the message offers; add `@CANVAS` where it is not in `default`.",
    ),
    Code(
        "RC6026",
        "Nothing matches for adoption",
        "No foreign object at the provider has the URL or name that the manifest declares.",
        "Name the object with `--external-id`; `reconciler export` lists what exists.",
    ),
    Code(
        "RC6030",
        "No such item or execution",
        "Nothing in the queues or the history has this id, or it is older than `retention.history`.",
        "List what there is with `reconciler executions`.",
    ),
    Code(
        "RC6031",
        "It has ended, or has begun, already",
        "An item that runs or is done cannot be approved; what is finished cannot be cancelled.",
        "See `reconciler executions`; `reconciler rerun` repeats a finished one.",
    ),
    Code(
        "RC6032",
        "This approval does not count",
        "The stage names its approvers and you are none of them, you have approved before, or the item is not the one you reviewed.",
        "Let somebody else of the approvers do it; a digest is shown by `reconciler executions ID`.",
    ),
    Code(
        "RC6033",
        "The source cannot be triggered",
        "`reconciler trigger` makes an event of an EventSource that is declared; events of providers come from providers.",
        "Name an EventSource of type `manual`, `schedule` or `webhook`.",
    ),
    Code(
        "RC6034",
        "The item cannot be queued",
        "An input has no value, or text of the event has characters that a shell would take for its own.",
        "Mend the mapping, or allow the characters with the input's `pattern`.",
    ),
    Code(
        "RC6035",
        "The execution has no log",
        "It has not started, its executor has none, or the provider has deleted it.",
        "Follow the URL of the run in `reconciler executions ID`.",
    ),
    Code(
        "RC6065",
        "The stage may not run this",
        "The name that `executor.resource.name` became is not in `executor.allow`, is no name at the provider, or belongs to another "
        "owner than the Integration's.",
        "Add it to `executor.allow`, or leave such events out with a filter.",
    ),
    Code(
        "RC6066",
        "The request of the stage is too large",
        "The templates of `executor.spec` become more than 4 MiB of text.",
        "Pass a smaller part of the event, or name it less often.",
    ),
    Code(
        "RC6060",
        "The worker for expressions failed",
        "The process in which filters and mappings are evaluated cannot be started, or ended before it began.",
        "Events wait. Give the daemon memory for a second process of 512 MiB at most, and see the log.",
    ),
    Code(
        "RC6061",
        "The event cannot be replayed",
        "It waits to be handed on already.",
        "See `reconciler events EVENT`.",
    ),
    # 70xx state
    Code(
        "RC7001",
        "The state cannot be used",
        "The database is damaged, newer than this program, or held by another process.",
        "Follow the message; `reconciler doctor` checks it.",
    ),
    Code(
        "RC7002",
        "The state cannot be written",
        "The state folder or the database belongs to another user or is read-only.",
        "Give the folder to the user that runs the program, or name another in `state.url` and `status.file`.",
    ),
    Code(
        "RC7003",
        "Another process holds the state",
        "A daemon, or a command that writes, already works on this state folder.",
        "Use the running daemon: its verbs work beside it. Or stop the process that the message names.",
    ),
    Code(
        "RC7004",
        "The database is locked",
        "Another program has the database file open and keeps a lock on it.",
        "It is tried again by itself. Find who has it open with `fuser`.",
    ),
    Code(
        "RC7005",
        "The disk is full",
        "An intent could not be stored, so the remote write was not made.",
        "Make room; it goes on by itself.",
    ),
    Code(
        "RC7006",
        "Another process has taken over",
        "This process was paused or cut off for so long that its lease went to another.",
        "Nothing: it wrote nothing and stops working on it. Check for pauses of the machine if it happens again.",
    ),
    Code(
        "RC7007",
        "The database does not answer",
        "The database server is down, restarting, or not reachable.",
        "It is tried again by itself; check that the server runs.",
    ),
    Code(
        "RC7008",
        "The state is newer than this program",
        "A newer version has migrated it.",
        "Use the newer version, or restore the backup from before the upgrade.",
    ),
    Code(
        "RC7009",
        "The state is damaged",
        "The database file fails its own check. It was left untouched.",
        "Restore a backup; or move the file away and run `reconciler rebuild`: objects are found again by their markers.",
    ),
    Code(
        "RC7010",
        "The state belongs to another owner",
        "`owner`, or the source's URL, branch or path that its default is made of, was changed.",
        "Set `owner` to the value that the message names, or use another state: an owner never takes over another's objects "
        "by itself.",
    ),
    Code(
        "RC7020",
        "There is no readable status file",
        "No daemon or pass has written one yet, or it is damaged.",
        "Start `reconciler run`, or make one pass with `reconciler run --once`.",
    ),
    Code(
        "RC7021",
        "There is no state yet",
        "The command needs what a run records, and nothing ran with this configuration.",
        "Start `reconciler run`, or make one pass with `reconciler run --once`. Check `--config` and `state.url`.",
    ),
    Code(
        "RC7070",
        "The state is empty, but there was one",
        "The database file has no content, and files beside it say that this installation has worked before: a copy was cut off, "
        "or something emptied the file. A new state would forget suspensions and approvals without a word.",
        "Restore a backup. Without one, remove the empty file that the message names, then run `reconciler rebuild`.",
    ),
    Code(
        "RC7071",
        "Others may change the state",
        "The state folder can be written by its group or by everybody, and it could not be repaired because it belongs to another "
        "user or is shared like /tmp.",
        "Run the command that the message names, or use a folder of its own.",
    ),
    Code(
        "RC7072",
        "A file of the program cannot be used",
        "The disk reports an error, or something else stands where a file belongs.",
        "See the reason in the message; check the disk, then run `reconciler doctor`.",
    ),
    Code(
        "RC7073",
        "The queue's tables cannot be used",
        "The database of the queue (`engine.db`, or its tables on PostgreSQL) could not be opened or made. It holds nothing that "
        "cannot be made again.",
        "See the reason in the message. On SQLite, stop the program and remove `engine.db`; it is made again at the next start.",
    ),
    # 80xx server and events
    Code(
        "RC8001",
        "Not a request of the admin protocol",
        "Something else than this program wrote to the admin socket.",
        "Use the verbs of `reconciler`; the version of the command and of the daemon should be the same.",
    ),
    Code(
        "RC8002",
        "No daemon is running",
        "Nothing listens on the admin socket of this state folder.",
        "Start `reconciler run`. Check `--config` if one is running.",
    ),
    Code(
        "RC8003",
        "The daemon did not answer",
        "It is busy beyond the command's time, is stopping, or hangs.",
        "See its log and `/healthz`; try again.",
    ),
    Code(
        "RC8004",
        "The address cannot be listened on",
        "Another process has the port, or the address is not this machine's.",
        "Change `server.listen`, or stop the other process.",
    ),
    Code(
        "RC8005",
        "Not allowed with this token",
        "The API token's role does not include what was asked.",
        "Use a token of the role that the message names (`server.tokens`).",
    ),
    Code(
        "RC8006",
        "The request of the API is not valid",
        "A parameter or the body is not as `/api/v1/openapi.json` says.",
        "Mend what the message names.",
    ),
    Code(
        "RC8007",
        "The outputs were refused",
        "The job's token is not of this execution's run, is expired, or has another issuer or audience; or the execution has ended.",
        "See docs/stages.md for the step that pushes outputs.",
    ),
    Code(
        "RC8008",
        "The inbox is full",
        "More deliveries wait than may be held.",
        "Nothing: senders are told to come back, and what they do not send again is found by the sweep.",
    ),
    Code(
        "RC8009",
        "A delivery contradicts an earlier one",
        "Its id is known, but its body is another: somebody replays captured deliveries, or the sender is defective.",
        "The first one counts and the second was answered 409. Rotate the source's key (`reconciler rotate`) if you do not know why.",
    ),
    # 90xx defects
    Code(
        "RC9001",
        "A defect of this program",
        "Something happened that the code does not provide for.",
        "Please report it with the log line; no remote write is repeated blindly.",
    ),
)

LASTING = frozenset(
    [
        "RC2015",
        "RC3010",
        "RC4010",
        "RC4011",
        "RC4012",
        "RC4013",
        "RC7001",
        "RC7002",
        "RC7008",
        "RC7009",
        "RC7010",
        "RC7070",
        "RC7071",
    ]
)
"""What starting again does not repair: the daemon ends with `reconciler.cli.main.EXIT_CONFIG` for these."""

CODES: dict[str, Code] = {code.id: code for code in _TABLE}
