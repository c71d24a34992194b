"""The table of stable error codes. docs/generate.py writes ``docs/errors/<code>.md`` from it, and a test compares the two.

Ranges: 10xx YAML and documents, 11xx schema, 12xx references and semantics, 13xx expressions and templates, 20xx source,
30xx command line and configuration, 40xx credentials, 50xx providers and HTTP, 60xx plan and apply, 70xx state,
80xx server and events, 90xx internal errors.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """An error code: its title, the usual cause, and the fix."""

    id: str
    title: str
    cause: str
    fix: str


_TABLE = (
    # 10xx YAML and documents
    Code(
        "RC1001",
        "The manifests are invalid",
        "The manifests have one or more errors. Each error is listed with its own code.",
        "Fix the listed errors. `reconciler validate` shows all of them at once.",
    ),
    Code(
        "RC1002",
        "The file is too large",
        "A manifest file is larger than 1 MiB.",
        "Split the file. If it is not a manifest, add it to `.reconcilerignore`.",
    ),
    Code(
        "RC1003",
        "The file is not UTF-8",
        "The file uses another encoding or starts with a byte order mark.",
        "Save it as UTF-8 without a byte order mark.",
    ),
    Code(
        "RC1004",
        "Forbidden character",
        "The text contains a control, zero-width or bidirectional character, or two keys look the same but differ.",
        "Remove the character that the message names, or retype the text.",
    ),
    Code(
        "RC1005",
        "Invalid YAML",
        "The indentation, a quote or a bracket is wrong.",
        "Check the reported line and the one before it. The other documents of the file are still checked.",
    ),
    Code(
        "RC1006",
        "Unsupported YAML feature",
        "The document uses an anchor, alias, merge key, tag or directive.",
        "Write the value out. Quote text that starts with `&`, `*`, `!` or `%`.",
    ),
    Code(
        "RC1007",
        "Duplicate key",
        "A mapping has the same key twice. Most YAML readers silently keep one of the two.",
        "Remove one of them.",
    ),
    Code(
        "RC1008",
        "A limit of the YAML loader is exceeded",
        "The file has more than 32 levels, 50,000 nodes or 1,000 documents.",
        "Split the file. If it is not a manifest, add it to `.reconcilerignore`.",
    ),
    Code(
        "RC1010",
        "A key is not a string",
        "A key is a number, true, false, null, a list or a mapping.",
        "Quote the key.",
    ),
    Code(
        "RC1011",
        "Number out of range",
        "An integer needs more than 64 bits, or a number is too large for a double.",
        "Quote the value if it is text, such as an id or a commit.",
    ),
    Code(
        "RC1012",
        "The document is not a manifest",
        "The document is a list or text. A manifest is a mapping with kind, metadata and spec.",
        "Fix the document, or add the file to `.reconcilerignore`.",
    ),
    Code(
        "RC1013",
        "The document has no kind",
        "The key `kind` is missing, or a YAML file below `source.path` is not a manifest.",
        "Add `kind`, or add the file to `.reconcilerignore`.",
    ),
    Code(
        "RC1014",
        "Unknown kind",
        "The kind is misspelt or belongs to another tool.",
        "Use one of the kinds in docs/manifests.md, or add the file to `.reconcilerignore`.",
    ),
    Code(
        "RC1015",
        "A manifest contains a credential",
        "The text has the form of a token or private key of a known provider.",
        "Revoke the credential, because Git keeps it. Store a new one in a secret backend and refer to it with `valueFrom`.",
    ),
    # 11xx schema
    Code(
        "RC1100",
        "Unknown key",
        "The key is misspelt or at the wrong level.",
        "Use the key that the message suggests. docs/manifests.md lists all keys.",
    ),
    Code(
        "RC1101",
        "The value violates the schema",
        "A value is too long, too short, too small or too large, or a list has it twice.",
        "Follow the message. `reconciler schema KIND` prints the schema.",
    ),
    Code(
        "RC1102",
        "Missing key",
        "A required key is missing.",
        "Add it. docs/manifests.md has an example of every kind.",
    ),
    Code(
        "RC1103",
        "Invalid value",
        "The value is misspelt or not one of the allowed values.",
        "Use one of the values that the message lists.",
    ),
    Code(
        "RC1104",
        "Wrong type",
        "The value is text where a number is required, a literal where a reference is required, or the reverse.",
        "Quote numbers and true/false if they are text. Give credentials with `valueFrom`.",
    ),
    Code(
        "RC1105",
        "Wrong format",
        "A name, duration, URL, time or ARN has the wrong format.",
        "Use the format that the message shows.",
    ),
    Code(
        "RC1106",
        "Exactly one of several keys is required",
        "None of the alternatives is set, or more than one.",
        "Set exactly one of the keys that the message lists.",
    ),
    Code(
        "RC1107",
        "The key does not apply here",
        "The key belongs to another type or provider.",
        "Remove it.",
    ),
    # 12xx references and semantics
    Code(
        "RC1201",
        "Invalid time",
        "The time is not in RFC 3339 format.",
        "Use a format such as 2030-01-31T00:00:00Z.",
    ),
    Code(
        "RC1202",
        "A literal secret in Git",
        "A Secret of provider `local` is in a repository.",
        "Use provider `env` or `file`. If the value was a real secret, replace it.",
    ),
    Code(
        "RC1203",
        "A required key is missing for this type",
        "The type, scope or form of authentication needs another key or block.",
        "Add the key that the message names.",
    ),
    Code(
        "RC1204",
        "The path leaves its folder",
        "The path of a Secret is absolute or contains `..`.",
        "Write the path relative to `secrets.folder`.",
    ),
    Code(
        "RC1205",
        "The provider does not support this authentication",
        "The provider does not have this form of authentication.",
        "Use one of the forms that the message lists.",
    ),
    Code(
        "RC1206",
        "Conflicting keys",
        "A key belongs to a type or scope other than the one that is set.",
        "Remove one of the keys.",
    ),
    Code(
        "RC1207",
        "Invalid schedule",
        "The cron expression or the time zone is invalid.",
        "Use five fields (minute, hour, day, month, weekday) and an IANA time zone such as Europe/Berlin.",
    ),
    Code(
        "RC1208",
        "Duplicate name",
        "Two inputs, outputs, secrets, connections or mappings have the same name.",
        "Rename or remove one.",
    ),
    Code(
        "RC1209",
        "An input has no value",
        "A mapping omits an input, or the events of a connection have no mapping.",
        "Set every input in every mapping, or use one mapping without `when`.",
    ),
    Code(
        "RC1210",
        "The stage does not declare this name",
        "A mapping names an input or a connection that the stage does not declare.",
        "Declare it, or correct the name.",
    ),
    Code(
        "RC1211",
        "Declared more than once",
        "Two documents have the same kind, canvas and name. Both are rejected, because the right one cannot be determined.",
        "Keep one, or change the name or canvas of the other.",
    ),
    Code(
        "RC1212",
        "Reference not found",
        "No resource with this name exists in the same canvas or in `default`.",
        "Correct the name, or declare the resource. Other canvases are not searched.",
    ),
    Code(
        "RC1213",
        "The reference has the wrong type",
        "The integration belongs to a different provider than the one required.",
        "Refer to an integration of the right type.",
    ),
    Code(
        "RC1214",
        "The Secret does not have this key",
        "The reference names a key that the Secret does not declare.",
        "Correct the key, or add it to the Secret.",
    ),
    Code(
        "RC1215",
        "Connections form a cycle",
        "The stages would trigger each other endlessly.",
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
        "An event could choose any target",
        "`executor.resource.name` is a template, and `executor.allow` does not limit its values.",
        "Add `executor.allow` with names or patterns: `allow: [web, 'svc-*']`.",
    ),
    Code(
        "RC1255",
        "A display name does not identify a user",
        "Users can choose any display name. Somebody could take the name of an approver and get their rights.",
        "Give the `email` or the `id`.",
    ),
    Code(
        "RC1275",
        "A mapping reads the wrong event",
        "The mapping reads the event of one connection but also applies to events of another, where it would always fail.",
        "Give each connection its own mapping with `when: {triggeredBy: {connection: NAME}}`.",
    ),
    Code(
        "RC1276",
        "Impossible name or URL",
        "The provider does not allow names, paths or account URLs of this form.",
        "Write it as the provider shows it. The message has an example.",
    ),
    Code(
        "RC1277",
        "The provider does not send this event",
        "Webhooks of this provider do not offer this event type.",
        "Use an event name of the provider. The message lists the names or the nearest one.",
    ),
    Code(
        "RC1278",
        "The condition can never be met",
        "The schedule has no existing date, more approvals are required than people may give, or a time or list leaves nothing.",
        "Correct the value that the message names.",
    ),
    Code(
        "RC1279",
        "The URL is not allowed",
        "The URL contains a user name or password, cannot be parsed, or points to an address outside `network.allow`.",
        "Send credentials with `auth` or a header. If the address is intended, add it to `network.allow`.",
    ),
    # 13xx expressions and templates
    Code(
        "RC1301",
        "The expression does not compile",
        "The CEL expression has a syntax or type error. The message gives the position.",
        "Fix the expression. `$` is the payload; `headers` are the headers of the request.",
    ),
    Code(
        "RC1302",
        "Invalid template reference",
        "The template is not a dotted path, or it names an input or secret that the stage does not declare.",
        "Use inputs.NAME, secrets.NAME or event.PATH.",
    ),
    Code(
        "RC1303",
        "Invalid regular expression",
        "The pattern is not valid in RE2, which has no look-around and no back-references.",
        "Fix the pattern.",
    ),
    # 20xx source
    Code(
        "RC2001",
        "The source cannot be read",
        "The Git remote or the folder returned an unexpected answer.",
        "The last valid revision stays active. `reconciler doctor` shows the cause.",
    ),
    Code(
        "RC2002",
        "The source is unreachable",
        "The remote refused the connection, its host name does not resolve, it returned an error, or the folder does not exist.",
        "The daemon retries, and the last valid revision stays active. If the error persists, check `source.url`.",
    ),
    Code(
        "RC2003",
        "The source rejected the credential",
        "The token or key is wrong, has expired, or may not read the repository.",
        "Fix the file that `source.auth` names. The daemon reads it again at every fetch.",
    ),
    Code(
        "RC2004",
        "The branch does not exist",
        "The branch was deleted or renamed at the remote.",
        "Restore the branch, or set `source.branch` to the new name. Nothing is deleted meanwhile.",
    ),
    Code(
        "RC2005",
        "The revision contains no manifests",
        "All manifests were removed or moved to another folder.",
        "Restore them or correct `source.path`. To delete everything on purpose, set `source.allowEmpty: true`.",
    ),
    Code(
        "RC2006",
        "The manifest folder does not exist",
        "`source.path` is not a folder in the newest revision.",
        "Restore the folder, or set `source.path` to the new one. Nothing is deleted meanwhile.",
    ),
    Code(
        "RC2007",
        "Git rejected the revision",
        "The revision contains names such as `..` or `.git`, or damaged objects.",
        "Remove them from the history of the branch. Nothing of the revision was read.",
    ),
    Code(
        "RC2008",
        "The source timed out",
        "The remote accepted the connection but did not answer, or answered very slowly.",
        "The daemon retries. It stopped all processes of the failed attempt.",
    ),
    Code(
        "RC2009",
        "The source is too large",
        "A manifest, a revision or the repository exceeds its size limit.",
        "Set `source.path` to the folder of the manifests, exclude other files with `.reconcilerignore`, or use a separate "
        "repository.",
    ),
    Code(
        "RC2010",
        "History was rewritten",
        "The new head of the branch does not descend from the last accepted one, and `source.requireFastForward` is set.",
        "Restore the branch, or disable the setting for one fetch.",
    ),
    Code(
        "RC2011",
        "The repository belongs to another user",
        "Git configuration that another user controls cannot be trusted.",
        "Change the owner of the folder to the user that runs the process. The message has the command.",
    ),
    Code(
        "RC2012",
        "The SSH host key does not match",
        "The remote is a different host, or its key has changed.",
        "Compare the key with the one that the provider publishes, then replace the line in `source.auth.knownHostsFile`.",
    ),
    Code(
        "RC2013",
        "A manifest is a Git LFS pointer",
        "The file is stored in Git LFS, which the daemon never fetches.",
        "Store manifests in Git itself, or add the file to `.reconcilerignore`.",
    ),
    Code(
        "RC2014",
        "The revision does not have the required signature",
        "A commit is not signed by an allowed signer, or the key has expired or was revoked.",
        "Sign the commit with an allowed key. The last valid revision stays active.",
    ),
    Code(
        "RC2015",
        "The source configuration is unsafe",
        "`source.url` or `source.path` has an unsafe value.",
        "Follow the message: no credentials in the URL, use https or ssh, and a folder inside the repository.",
    ),
    Code(
        "RC2016",
        "Unknown revision",
        "The source has no branch, tag or commit with this name.",
        "Check the spelling, or fetch the revision first.",
    ),
    Code(
        "RC2017",
        "The remote answered with a redirect",
        "The repository has moved. The daemon never sends a credential to the target of a redirect.",
        "Set `source.url` to the new address.",
    ),
    Code(
        "RC2018",
        "The mirror is damaged",
        "The copy of the repository in the state folder cannot be read.",
        "No action is required: the daemon clones the repository again. If this happens repeatedly, check the disk.",
    ),
    Code(
        "RC2045",
        "A possible manifest was not read",
        "A path that holds or held manifests is a link, a submodule or a file with another extension. The daemon does not "
        "follow links or fetch submodules.",
        "Store the manifests as regular `*.yaml` files, add the path to `.reconcilerignore`, or remove it. Until then the "
        "daemon deletes nothing.",
    ),
    # 30xx command line and configuration
    Code(
        "RC3001",
        "Wrong usage",
        "The command line has an unknown verb, option or value.",
        "Run `reconciler VERB --help`.",
    ),
    Code(
        "RC3010",
        "The configuration is invalid",
        "A key is unknown or missing, or its value is invalid.",
        "Fix the key in reconciler.yaml or in the environment. docs/configuration.md lists all keys.",
    ),
    Code(
        "RC3012",
        "OpenTelemetry is not installed",
        "`telemetry.enabled` is true, and the libraries that the extra `otel` brings are missing.",
        "`pip install 'integrations-reconciler[otel]'` into the environment of the program, or set `telemetry.enabled` to false.",
    ),
    Code(
        "RC3002",
        "Files already exist",
        "`reconciler init` found files with the names that it would write.",
        "Use another folder, or `--force` to overwrite the files. Nothing was written.",
    ),
    Code(
        "RC3020",
        "The public URL of the daemon is not configured",
        "An EventSource needs a webhook or notification that calls this daemon, and server.publicUrl is empty.",
        "Set `server.publicUrl` to the https URL at which providers reach the daemon. Until then the daemon creates "
        "nothing at the provider.",
    ),
    Code(
        "RC3075",
        "The output cannot be written",
        "Writing to stdout failed: the disk is full, or the device failed. A closed pipe (`| head`) is not an error.",
        "Write to another place. Other work of the command is complete; the exit code shows its result.",
    ),
    # 40xx credentials
    Code(
        "RC4001",
        "A secret value is missing",
        "The environment variable, file or backend that a Secret names has no value.",
        "Provide the value. The daemon retries, and changes nothing at the provider meanwhile.",
    ),
    Code(
        "RC4002",
        "The Secret is not allowed to read this value",
        "`secrets.env` does not allow the environment variable, the path leaves the secrets folder, or the file is too "
        "large or is not text.",
        "Add the name to `secrets.env`, or name a text file of at most 64 KiB inside `secrets.folder`.",
    ),
    Code(
        "RC4003",
        "A literal secret in a manifest",
        "A Secret of provider `local` stores its values in Git.",
        "Use provider `env` or `file`. `local` works only with `sandbox: true`, for trials. Replace every value that was "
        "committed.",
    ),
    Code(
        "RC4004",
        "The secret provider is not available",
        "This version, or this command, does not read Secrets of the provider.",
        "Use another provider.",
    ),
    Code(
        "RC4010",
        "The master key is unavailable",
        "The key file is missing, unreadable, or cannot be created.",
        "Restore the file from its backup. The daemon creates a new key only if neither a state nor a key exists.",
    ),
    Code(
        "RC4011",
        "The master key is invalid",
        "The file does not contain 32 bytes in base64.",
        "Restore the right file from its backup.",
    ),
    Code(
        "RC4012",
        "The master key does not match the state",
        "The state was created with another key, and `masterKey.previousFile` does not contain it either.",
        "Restore the right key. To replace a key, set `masterKey.previousFile` to the old one. The daemon never re-keys on "
        "its own.",
    ),
    Code(
        "RC4013",
        "Other users can read the master key",
        "The mode of the key file is wider than 0600, or the file belongs to another user. Only a file of root may be readable by a "
        "group of the daemon (mode 0440), as in a Kubernetes Secret.",
        "Run the `chmod` or `chown` command from the message.",
    ),
    Code(
        "RC4020",
        "The daemon issues no ID tokens",
        "An Integration or a Secret uses `oidc`, but the daemon is not an OIDC issuer.",
        "Set `oidc.issuer`, or `server.publicUrl`, to an https URL that the provider can reach.",
    ),
    Code(
        "RC4021",
        "An OIDC signing key cannot be decrypted",
        "The key in the state was sealed under a master key that is neither the current nor the previous one, or its row is damaged.",
        "Restore the master key. If it is lost, run `reconciler oidc rotate --emergency`; the relying parties then read the new key set.",
    ),
    Code(
        "RC4023",
        "The OIDC signing key is not published",
        "`oidc.issuer` is another address than `server.publicUrl`, and the key set there does not contain the key that would sign.",
        "Run `reconciler oidc export DIR` and publish both files below the issuer's URL.",
    ),
    Code(
        "RC4070",
        "The key of New Relic is not a user key",
        "The secret holds a licence or ingest key, which opens no API.",
        "Create a user key (it begins with NRAK-) and replace the secret. No commit and no restart is needed.",
    ),
    Code(
        "RC4071",
        "Docker Hub refuses the password",
        "The account has two-factor authentication, or its organization enforces single sign-on.",
        "Create a personal access token, or an access token of the organization, and use it as the password.",
    ),
    Code(
        "RC4072",
        "Buddy refuses the ID token",
        "The identity provider at Buddy expects another issuer, audience or subject, or Buddy cannot read the issuer's keys.",
        "Compare the identity provider at Buddy with `auth.oidc` and `oidc.issuer`.",
    ),
    Code(
        "RC4500",
        "Spinnaker takes no notice of the credential",
        "Gate accepts requests without a credential, or ignores this form: it answers as the user `anonymous`.",
        "Enable the form of authentication for API clients in Gate, or use `auth.use: none`.",
    ),
    Code(
        "RC4050",
        "A relying party refuses our ID token",
        "A claim of the token differs from what the trust policy of the provider wants, or the provider cannot read the key set. The "
        "message names the claim.",
        "Run `reconciler oidc trust PROVIDER RESOURCE` for a policy that fits, or change `auth.oidc` in the manifest. At most one try "
        "a minute is made.",
    ),
    Code(
        "RC4041",
        "An event of an App has no source",
        "The event came through the webhook of an App, and no event source asks for it: its installation or its repository is not declared.",
        "Declare an Integration for the account and an EventSource for the repository, then replay the event.",
    ),
    Code(
        "RC4042",
        "The App is not subscribed to an event",
        "An EventSource asks for an event that the GitHub App does not subscribe to. Such an App looks healthy and sends nothing.",
        "Subscribe the App on its settings page, under Permissions & events. GitHub has no API for that.",
    ),
    Code(
        "RC4043",
        "The App's installation lacks a repository",
        "An EventSource names a repository that does not exist, or that the App's installation does not contain.",
        "Add the repository on the page of the installation, or fix the name in the manifest.",
    ),
    Code(
        "RC4201",
        "An event needs a permission that is not requested",
        "The App to register would subscribe to an event that none of its permissions gives. GitHub refuses such a manifest as a whole.",
        "Add `--permission NAME=read` with the permission that the message names, or leave the event out.",
    ),
    Code(
        "RC4202",
        "The App to register has an invalid setting",
        "A permission, a level, an event or the name is not one that GitHub knows for Apps.",
        "See the message for the nearest name.",
    ),
    Code(
        "RC4203",
        "The registration code is not valid",
        "GitHub does not know the code: it was used already, or is older than an hour.",
        "Run `reconciler app create` again. If the App exists at GitHub, delete it first, or generate a key on its settings page.",
    ),
    Code(
        "RC4204",
        "GitHub refused to register the App",
        "GitHub found the request invalid.",
        "Fix what the message names, and run the command again.",
    ),
    Code(
        "RC4205",
        "No answer came back from the browser",
        "The App was not confirmed in the browser in time, or the browser could not reach the page on this host.",
        "Run the command again. From another machine, forward the port with ssh: see docs/github-app.md.",
    ),
    Code(
        "RC4206",
        "A file for the secrets of the App cannot be created",
        "A file with the name exists already, which is never overwritten, or the folder cannot be written.",
        "Remove the file if no App uses it, or choose another folder with `--out`.",
    ),
    Code(
        "RC4207",
        "The App exists, and its key could not be stored",
        "GitHub made the App, and shows its secrets once. Storing them failed.",
        "Fix the reason, delete the App on the page that the message names, and run the command again.",
    ),
    Code(
        "RC4208",
        "The page for the browser cannot be served",
        "Another process uses the port.",
        "Use another `--port`, or leave it out for a free one.",
    ),
    Code(
        "RC4209",
        "The Integrations use no App, or more than one fits",
        "The command is about an App, and the manifests name none or several in its place.",
        "Name one: `reconciler app status Integration/NAME`, or `reconciler app create Integration/NAME`.",
    ),
    Code(
        "RC4051",
        "The public documents of the issuer cannot be written",
        "The folder of `oidc export` is a file, cannot be created, or is read only.",
        "Name a folder that you may write to.",
    ),
    Code(
        "RC4052",
        "The relying party does not accept this issuer",
        "AWS, Azure and Google accept only an https issuer, and AWS none with a port.",
        "Set `oidc.issuer` to an https address on port 443, and publish the files of `reconciler oidc export DIR` there.",
    ),
    Code(
        "RC4053",
        "The resource does not identify itself with an ID token there",
        "The Integration uses another form of authentication, belongs to another provider, or its kind has no identity.",
        "Name an Integration with `auth.use: oidc`, a Secret with `provider: vault`, or a Stage.",
    ),
    Code(
        "RC4065",
        "Microsoft Entra refuses the application",
        "The client secret is wrong or has expired, or the application is not in the tenant.",
        "Follow the hint of the message. A federated credential (`auth.use: oidc`) has no secret and no end. At most one try a minute is "
        "made; a new secret is tried at once.",
    ),
    Code(
        "RC4066",
        "Google refuses the credential",
        "The service account or its key was deleted or disabled, the clocks differ, or the workload identity provider refuses our token.",
        "Follow the hint of the message. At most one try a minute is made; a new key is tried at once.",
    ),
    Code(
        "RC4067",
        "No token endpoint answers",
        "The answer to a request for a token is not one of a token endpoint: a proxy, a firewall or another server sent it.",
        "Check `apiUrl`, `network.proxy` and the firewall.",
    ),
    Code(
        "RC4068",
        "The secret is not a service account key",
        "The value is not the JSON file of a service account key, or it names a token endpoint that is not Google's. Nothing was sent.",
        "Provide the whole JSON file of the key, or use `auth.use: oidc`.",
    ),
    Code(
        "RC4069",
        "The service account may not be impersonated",
        "Google accepts our ID token, but the identity has no permission to act as `auth.oidc.serviceAccount`.",
        "Grant the role `roles/iam.workloadIdentityUser` on the service account; `reconciler oidc trust google RESOURCE` prints the command.",
    ),
    Code(
        "RC4080",
        "A secret backend cannot be reached",
        "The server of a Secret did not answer, refused the connection, or answered with something that is not its API.",
        "Check the address, the network and the server. The daemon tries again within a minute, and changes nothing at the provider meanwhile.",
    ),
    Code(
        "RC4081",
        "A secret backend is sealed or not active",
        "The server answers, but it is sealed, not initialized, or a standby that does not forward requests.",
        "Unseal it, or name the address of the active server. The daemon tries again within a minute.",
    ),
    Code(
        "RC4082",
        "A secret backend refuses the login",
        "The server does not accept the ID token, the token or the AppRole of the Secret, or the credential of the Integration that reads it.",
        "Compare the claims in the message with the role or its trust policy, or replace the credential.",
    ),
    Code(
        "RC4083",
        "A secret backend denies access",
        "The login is accepted, but its policies do not allow the daemon to read the path.",
        "Add the capability in the message to a policy of the role.",
    ),
    Code(
        "RC4084",
        "A secret backend has no such value",
        "The mount, the path, the version, the field or the key does not exist, or the mount is not KV version 2.",
        "Fix the place in the Secret, or write the value there.",
    ),
    Code(
        "RC4085",
        "A SOPS file cannot be decrypted",
        "No age key of `secrets.sops.ageKeyFile` opens the file, the file is encrypted for other key services only, or the key file cannot be read.",
        "Add the daemon's age recipient to `.sops.yaml` and run `sops updatekeys FILE`.",
    ),
    Code(
        "RC4086",
        "A SOPS file was changed after its encryption",
        "The message authentication code of the file, or of a value in it, is wrong. No value of the file is used.",
        "Restore the file from its history, or write it again with `sops`.",
    ),
    Code(
        "RC4087",
        "A secret value is not loaded yet",
        "The daemon has not read the Secret from its backend since it started, or the repository has not been read yet.",
        "Wait for the next reconcile. If it stays, see the condition of the Secret.",
    ),
    Code(
        "RC4088",
        "A Secret needs itself",
        "The credential that opens the Secret's backend is a value of the same Secret, directly or through an Integration.",
        "Keep that credential in another Secret, or log in by `oidc`.",
    ),
    Code(
        "RC4089",
        "A package for the secret provider is missing",
        "Secrets of provider `sops` need the package `pyrage`.",
        "Install it: `pip install 'integrations-reconciler[sops]'`.",
    ),
    Code(
        "RC4060",
        "Requests to AWS cannot be signed",
        "The package botocore, which computes the signatures, is not installed. It is an extra of this program.",
        "Run `pip install 'integrations-reconciler[aws]'` in the environment of the daemon, and restart it.",
    ),
    Code(
        "RC4061",
        "An AWS role cannot be assumed",
        "The role does not exist, its trust policy does not accept the principal, the external id differs, or the session would "
        "last longer than the role allows.",
        "Compare the trust policy of the role with `externalId`, `duration` and the identity in the message.",
    ),
    Code(
        "RC4062",
        "AWS refused the signature of a request",
        "The secret access key does not belong to the access key id, or the time of the request is more than 5 minutes off.",
        "Check the Secret, and the clock of the host.",
    ),
    Code(
        "RC4064",
        "A value in AWS cannot be read",
        "The secret or parameter does not exist, is marked for deletion, has no such key, or its value is empty or no text.",
        "Fix the name in the Secret, or store the value.",
    ),
    Code(
        "RC4300",
        "A secret backend limits the rate",
        "The store of a Secret answers that there were too many requests, of this daemon or of others that share the limit.",
        "No action is required: the daemon asks again at the time that the store names, and at most once a minute.",
    ),
    # 44xx identities of calls
    Code(
        "RC4401",
        "A credential is not sent to this host",
        "The URL of a stage names a host at which the provider of the Integration does not answer itself, and `network.allow` does not "
        "name it. Nothing was sent. Hosts of functions, containers, gateways and buckets belong to whoever runs them.",
        "If the host may have the credential, add it to `network.allow`. A commit alone cannot send a credential anywhere.",
    ),
    Code(
        "RC4402",
        "A credential is not sent over http",
        "The URL of a stage with `auth` is not https, so that anybody on the way could read the credential. Nothing was sent.",
        "Use https. Only an address of the daemon's own host, in `network.allow`, may be called over http.",
    ),
    Code(
        "RC4403",
        "The Integration gives no identity for calls",
        "`auth.integration` of an `http` executor names an Integration whose credential is for the provider's own API: a service that "
        "received it could act as the daemon.",
        "Name an Integration of type `aws`, `azure` or `google`, or use `auth: {oidc: {audience: …}}`.",
    ),
    Code(
        "RC4404",
        "The credential of a stage's call is refused",
        "The provider refuses the credential of the Integration that the stage names. The stage starts nothing until it is accepted.",
        "Replace the value of the Secret, or repair the trust at the provider: see `reconciler credentials`. The start is tried again at "
        "most once a minute.",
    ),
    Code(
        "RC4405",
        "The called service is not named",
        "The host of the URL does not say for which service and region a request is signed, or for which audience a token is.",
        "Write `service` and `region` (aws) or `audience` (azure) into `auth`.",
    ),
    Code(
        "RC4406",
        "A header belongs to the identity",
        "The stage sets a header in `headers` that `auth` sets, such as Authorization.",
        "Remove the header, or remove `auth`.",
    ),
    Code(
        "RC4407",
        "A token for a service must not have this audience",
        "With this audience the service that receives the token could exchange it for a credential of the provider.",
        "Name the audience that the service itself expects.",
    ),
    # 50xx providers and HTTP
    Code(
        "RC5001",
        "A provider call failed",
        "The provider rejected a request or did not answer.",
        "See the message. The daemon retries.",
    ),
    Code(
        "RC5011",
        "The provider rejected the credential (401)",
        "The token is wrong, expired or revoked.",
        "Provide a valid token. Only this integration waits; the others continue.",
    ),
    Code(
        "RC5012",
        "Permission denied (403)",
        "The credential is valid but lacks a permission.",
        "Grant the permission that the message names.",
    ),
    Code(
        "RC5013",
        "Object not found (404)",
        "The object was deleted at the provider, or the credential cannot see it.",
        "If it was deleted, no action is required: the daemon reads the complete list and recreates the object.",
    ),
    Code(
        "RC5014",
        "Scope not found (404)",
        "The repository, organization, workspace or project was deleted or renamed, or the credential cannot see it.",
        "Check the name in the manifest and the access of the credential. The daemon deletes nothing because of this error.",
    ),
    Code(
        "RC5015",
        "The provider reports a conflict",
        "Another object has the same name or URL, or the object changed meanwhile.",
        "If the other object is foreign, delete it or set `lifecycle.adopt`. Otherwise the daemon resolves the conflict.",
    ),
    Code(
        "RC5016",
        "The provider rejected the values",
        "The provider does not accept a value from the manifest.",
        "Fix the manifest. The daemon retries when the spec changes.",
    ),
    Code(
        "RC5017",
        "Rate limit exceeded",
        "The credential made too many requests.",
        "No action is required: the daemon continues at the time that the message shows.",
    ),
    Code(
        "RC5018",
        "The resource was renamed at the provider",
        "The provider answered with a redirect to the new name.",
        "Write the new name into the manifest. Until then the daemon follows the redirect by id.",
    ),
    Code(
        "RC5019",
        "The provider is unavailable",
        "The connection was refused, the host name does not resolve, or a read returned a 5xx status.",
        "The daemon retries with exponential back-off.",
    ),
    Code(
        "RC5020",
        "The outcome of a write is unknown",
        "The connection ended after the request was sent.",
        "No action is required: before the next write, the daemon reads the provider to determine the outcome.",
    ),
    Code(
        "RC5021",
        "Unexpected answer from the provider",
        "The answer is not JSON, is too large, or does not match the provider's API.",
        "Check `apiUrl`. It may point to a proxy or a login page.",
    ),
    Code(
        "RC5022",
        "TLS error",
        "The certificate or the protocol version was rejected.",
        "Fix the certificate, or add your CA to `network.caBundle`.",
    ),
    Code(
        "RC5023",
        "The address is not allowed",
        "The host does not belong to the provider, or it resolves to a non-public address.",
        "If the address is intended, add the host or CIDR to `network.allow` in the configuration.",
    ),
    Code(
        "RC5024",
        "It is unknown whether the run started",
        "The start was interrupted, and no run at the provider carries the id of the execution.",
        "Check the runs that the message names. Add the id to the `run-name` of the workflow (see docs/stages.md), then "
        "use `reconciler rerun`.",
    ),
    Code(
        "RC5045",
        "The repository is read-only",
        "The repository is archived. GitHub shows its webhooks but rejects every change.",
        "Unarchive the repository, or remove it from the manifest. The webhook then stays as it is and sends nothing.",
    ),
    Code(
        "RC5050",
        "The provider declined the request",
        "The cause is outside the manifest: a limit, a quota, a lock, a suspended account or plan, a missing setting, or a "
        "proxy.",
        "Follow the provider's message. The daemon retries at long intervals; `reconciler reconcile KIND/NAME` retries at once.",
    ),
    Code(
        "RC5051",
        "A list at the provider is too large",
        "The pages of one list exceed the limit of bytes or items.",
        "Delete unneeded objects at the provider, or name fewer targets in the manifest.",
    ),
    Code(
        "RC5052",
        "Clock skew",
        "The answers of the provider have no `Date` header, or the clock of this host is wrong. The daemon cannot prove "
        "whether a run was started.",
        "Synchronize the clock of the host (chrony or systemd-timesyncd). `reconciler doctor` shows the offset. The daemon "
        "searches for a run with unknown outcome and never starts it twice.",
    ),
    # 60xx plan and apply
    Code(
        "RC6001",
        "The plan is out of date",
        "The changes that `apply` would make are not those of `--plan`.",
        "Review the printed difference, then apply with the new digest.",
    ),
    Code(
        "RC6040",
        "The plan changed during apply",
        "The provider, the state or a secret changed between plan and call, or between two rounds. The approved changes "
        "were made, and no others.",
        "Run `reconciler plan` to review the remaining changes, then `reconciler apply --plan sha256:…` with the printed digest.",
    ),
    Code(
        "RC6041",
        "A secret changed after planning",
        "The secret value differs from the one that the plan was made for.",
        "Nothing was written. Plan and apply again; the daemon does this automatically.",
    ),
    Code(
        "RC6010",
        "Not implemented in this version",
        "The manifest is valid, but this version has no driver for its type or its form of authentication.",
        "No action is required. The resource is Stalled with reason NotImplemented, and the daemon changes nothing at the "
        "provider.",
    ),
    Code(
        "RC6011",
        "Unknown integration",
        "The integration is neither declared nor recorded in the state, so the daemon cannot call its provider.",
        "Declare the Integration until all of its objects are deleted, or use `reconciler forget` for the remaining ones.",
    ),
    Code(
        "RC6020",
        "No blocked changes have this digest",
        "The blocked changes differ from the reviewed ones, or the digest belongs to another plan.",
        "Run `reconciler plan` again, and approve the digest below `Blocked:`.",
    ),
    Code(
        "RC6021",
        "The resource was not suspended by command",
        "The resource is not suspended, or its manifest suspends it.",
        "Remove `lifecycle.suspend` from the manifest. `resume` only ends what `suspend` started.",
    ),
    Code(
        "RC6022",
        "The resource has no objects at a provider",
        "Resources of this kind own no remote objects, so there is nothing to reconcile.",
        "Name an EventSource, a BuddyIntegration or an Integration.",
    ),
    Code(
        "RC6023",
        "The resource has no recorded objects",
        "The state contains no object of this resource.",
        "Check the spelling. `reconciler status` lists the known resources.",
    ),
    Code(
        "RC6024",
        "The resource is still declared",
        "The next reconciliation would find the object again by its marker.",
        "First remove the manifest with `deletionPolicy: Orphan`, then use `reconciler forget`.",
    ),
    Code(
        "RC6025",
        "Resource not found",
        "Neither the manifests nor the state contain a resource of this kind, name and canvas.",
        "Use one of the suggested names. Add `@CANVAS` if the resource is not in `default`.",
    ),
    Code(
        "RC6026",
        "No object matches for adoption",
        "No foreign object at the provider has the declared URL or name.",
        "Name the object with `--external-id`. `reconciler export` lists existing objects.",
    ),
    Code(
        "RC6030",
        "Item or execution not found",
        "No item or execution has this id, or it is older than `retention.history`.",
        "List the known ones with `reconciler executions`.",
    ),
    Code(
        "RC6031",
        "The item or execution is in another state",
        "A running or finished item cannot be approved. A finished execution cannot be cancelled.",
        "See `reconciler executions`. `reconciler rerun` repeats a finished execution.",
    ),
    Code(
        "RC6032",
        "The approval is not valid",
        "You are not one of the approvers of the stage, you have already approved, or the item is not the one that you reviewed.",
        "Ask another approver. `reconciler executions ID` shows the digest.",
    ),
    Code(
        "RC6033",
        "The source cannot be triggered",
        "`reconciler trigger` creates events of a declared EventSource. Events of providers can only come from the provider.",
        "Name an EventSource of type `manual`, `schedule` or `webhook`.",
    ),
    Code(
        "RC6034",
        "The item cannot be queued",
        "An input has no value, or the text of the event contains shell metacharacters.",
        "Fix the mapping, or allow the characters with the `pattern` of the input.",
    ),
    Code(
        "RC6035",
        "The execution has no log",
        "The execution has not started, its executor has no logs, or the provider deleted the log.",
        "Open the URL of the run from `reconciler executions ID`.",
    ),
    Code(
        "RC6065",
        "The stage must not run this target",
        "The value of `executor.resource.name` is not in `executor.allow`, is not a valid name at the provider, or belongs "
        "to an owner other than the Integration's.",
        "Add it to `executor.allow`, or exclude such events with a filter.",
    ),
    Code(
        "RC6066",
        "The request of the stage is too large",
        "The templates of `executor.spec` become more than 4 MiB of text.",
        "Pass a smaller part of the event, or name it less often.",
    ),
    Code(
        "RC6060",
        "The expression worker failed",
        "The process that evaluates filters and mappings could not start, or ended during start-up.",
        "Events wait. Make sure that the daemon has memory for a second process of up to 512 MiB, and check the log.",
    ),
    Code(
        "RC6061",
        "The event cannot be replayed",
        "The event is already pending.",
        "See `reconciler events EVENT`.",
    ),
    # 70xx state
    Code(
        "RC7001",
        "The state cannot be used",
        "The database is damaged, newer than this program, or locked by another process.",
        "Follow the message. `reconciler doctor` checks the state.",
    ),
    Code(
        "RC7002",
        "The state is not writable",
        "The state folder or the database belongs to another user or is read-only.",
        "Change the owner of the folder to the user that runs the program, or choose another one with `state.url` and "
        "`status.file`.",
    ),
    Code(
        "RC7003",
        "Another process holds the state",
        "A daemon or a writing command already uses this state folder.",
        "Use the running daemon, since commands work beside it, or stop the process that the message names.",
    ),
    Code(
        "RC7004",
        "The database is locked",
        "Another program has the database file open and locked.",
        "The daemon retries. Find the other program with `fuser`.",
    ),
    Code(
        "RC7005",
        "The disk is full",
        "The daemon could not store the intent of a write, so it did not make the write.",
        "Free some space. The daemon then continues.",
    ),
    Code(
        "RC7006",
        "Another process has taken over",
        "This process was paused or disconnected for so long that another process got its lease.",
        "No action is required: this process wrote nothing and stopped. If it happens repeatedly, check why the machine pauses.",
    ),
    Code(
        "RC7007",
        "The database does not respond",
        "The database server is down, restarting or unreachable, or it refuses the login.",
        "A running daemon retries. Check that the server is running, and the user, password and database in `state.url`.",
    ),
    Code(
        "RC7008",
        "The state is newer than this program",
        "A newer version migrated the state, and this version cannot use the new schema. A process that was running at that moment stops with "
        "this error, too. Nothing was changed.",
        "Install the version that the message names. To keep this version, restore the backup from before the upgrade: with SQLite, the "
        "program made one (`state.before-SCHEMA.db`), which the message names; see docs/backup.md.",
    ),
    Code(
        "RC7009",
        "The state is damaged",
        "The database file failed its integrity check. It was not changed.",
        "Restore a backup. Without one, move the file away and run `reconciler recover`, which finds the objects again by "
        "their markers.",
    ),
    Code(
        "RC7010",
        "The state belongs to another owner",
        "`owner` changed, or the source URL, branch or path that determines its default.",
        "Set `owner` to the value in the message, or use another state. An owner never takes over the objects of another "
        "one automatically.",
    ),
    Code(
        "RC7020",
        "The status file cannot be read",
        "No daemon has written a status file yet, or the file is damaged.",
        "Start `reconciler run`, or reconcile once with `reconciler run --once`.",
    ),
    Code(
        "RC7021",
        "There is no state yet",
        "The command needs a state, and nothing has run with this configuration.",
        "Start `reconciler run`, or reconcile once with `reconciler run --once`. Check `--config` and `state.url`.",
    ),
    Code(
        "RC7070",
        "The state is empty but existed before",
        "The database file is empty, and the files next to it show that this installation was in use: a copy was "
        "interrupted, or the file was truncated. A new state would silently lose suspensions and approvals.",
        "Restore a backup. Without one, remove the empty file that the message names, then run `reconciler recover`.",
    ),
    Code(
        "RC7071",
        "Other users can change the state",
        "The group or all users can write to the state folder. The program could not fix this, because the folder belongs "
        "to another user or is shared like /tmp.",
        "Run the command from the message, or use a separate folder.",
    ),
    Code(
        "RC7072",
        "A file of the program cannot be used",
        "The disk reported an error, or the path is not a regular file.",
        "See the reason in the message. Check the disk, then run `reconciler doctor`.",
    ),
    Code(
        "RC7073",
        "Processes of an older version are still running",
        "The migration of this version changes what the older version uses, and processes of it still work on this PostgreSQL database.",
        "Nothing was changed. Stop all processes of the older version, then start this one. An upgrade by one release never needs that.",
    ),
    Code(
        "RC7074",
        "The backup cannot be made or restored",
        "There is a file or a state in the way, the backup is damaged or of another installation, or a daemon is running.",
        "Nothing was changed. Follow the hint of the message; docs/backup.md has the steps.",
    ),
    # 80xx server and events
    Code(
        "RC8001",
        "Invalid admin request",
        "Another program wrote to the admin socket.",
        "Use the `reconciler` commands. Command and daemon should have the same version.",
    ),
    Code(
        "RC8002",
        "No daemon is running",
        "No process listens on the admin socket of this state folder.",
        "Start `reconciler run`. If a daemon is running, check `--config`.",
    ),
    Code(
        "RC8003",
        "The daemon did not answer",
        "The daemon is overloaded, is stopping, or hangs.",
        "Check its log and `/healthz`, then try again.",
    ),
    Code(
        "RC8004",
        "The listen address is not available",
        "Another process uses the port, or the address does not belong to this machine.",
        "Change `server.listen`, or stop the other process.",
    ),
    Code(
        "RC8005",
        "The token does not allow this",
        "The role of the API token does not permit the request.",
        "Use a token with the role that the message names (`server.tokens`).",
    ),
    Code(
        "RC8006",
        "Invalid API request",
        "A parameter or the body does not match `/api/v1/openapi.json`.",
        "Fix the value that the message names.",
    ),
    Code(
        "RC8007",
        "The outputs were rejected",
        "The job token does not belong to the run of this execution, has expired, or has the wrong issuer or audience; or "
        "the execution has ended.",
        "See docs/stages.md for the step that pushes outputs.",
    ),
    Code(
        "RC8008",
        "The inbox is full",
        "The number of pending deliveries has reached its limit.",
        "No action is required: the daemon asks senders to retry, and recovers missed deliveries later.",
    ),
    Code(
        "RC8009",
        "A delivery contradicts an earlier one",
        "The id of the delivery is known, but its body differs. Somebody replays captured deliveries, or the sender is faulty.",
        "The first delivery counts; the second got status 409. If you do not know the cause, rotate the key of the source "
        "(`reconciler rotate`).",
    ),
    # 81xx notifications
    Code(
        "RC8101",
        "A sink gave an unexpected answer",
        "The service behind a Notification answered with a success that it does not give: an HTML page, or JSON without the fields of "
        "its API. A proxy or a login page may have answered in its place.",
        "Check the URL of the sink. The message is sent again; `reconciler notify test NAME` shows the present answer.",
    ),
    Code(
        "RC8102",
        "A sink refused the credential",
        "The token or password of a Notification is wrong, or was revoked.",
        "Replace the value in the Secret. Waiting messages are sent then.",
    ),
    Code(
        "RC8103",
        "A sink refused the message",
        "The service does not accept the channel, the recipient or the content.",
        "Follow the reason in the message, for example invite the bot to the channel, then run `reconciler notify test NAME`. A message "
        "whose content is refused three times is abandoned, so that it does not block later ones.",
    ),
    Code(
        "RC8104",
        "The signing key of a webhook is invalid",
        "The key of the sink `webhook` is not `whsec_` with 24 to 64 bytes in Base64.",
        "Store the output of `echo whsec_$(openssl rand -base64 32)` in the Secret, or leave out `key` to use a derived one.",
    ),
    Code(
        "RC8106",
        "The source is not a repository at a code host",
        "The sink `github-commit-status` writes to the repository of the manifests, and `source.url` is a folder.",
        "Set `source.url` to the URL of the repository, or use another sink.",
    ),
    Code(
        "RC8107",
        "The URL of a sink cannot be used",
        "The Secret does not contain a whole https URL, or it is that of a retired Office 365 connector.",
        "Store the URL of an incoming webhook or of a Workflow, in one line.",
    ),
    Code(
        "RC8108",
        "The sink has no test message",
        "A commit status shows how the sync of a commit ended, so a test would look like a result.",
        "Push a commit, and see the condition Delivering of the Notification.",
    ),
    Code(
        "RC8109",
        "Some recipients did not get the message",
        "The mail server accepted the message for some recipients and refused it for others.",
        "A recipient that the server refuses for now is tried again for an hour, without the others. Correct a wrong address in `to`.",
    ),
    # 82xx reviews of pull requests
    Code(
        "RC8201",
        "Pull requests cannot be reviewed with this configuration",
        "`review.integration` names no Integration of a code host, or `source.url` is not the URL of a remote repository.",
        "Declare the Integration of the code host that has the repository of the manifests, and name it in `review.integration`.",
    ),
    Code(
        "RC8202",
        "A pull request was not reviewed in time",
        "The head cannot be fetched yet, or the provider does not answer.",
        "No action is required: the review is repeated. At `review.timeout` its check ends as timed out.",
    ),
    Code(
        "RC8203",
        "A review changes all the time",
        "Several processes and events changed the same review at once.",
        "No action is required: the next list of open pull requests contains it.",
    ),
    Code(
        "RC8204",
        "The pull request is not reviewed",
        "It does not exist, is closed, is for another branch than `source.branch`, or comes from a fork while `review.forks` is `off`.",
        "Name an open pull request for the watched branch, or change `review.forks`.",
    ),
    # 83xx dashboard
    Code(
        "RC8301",
        "The dashboard needs a login",
        "There is no session, or it has ended: it was over after 12 hours, its token was removed from the configuration, or the cookie is "
        "of another installation.",
        "Log in again with a token that `server.tokens` has.",
    ),
    Code(
        "RC8302",
        "Without a login the dashboard answers only locally",
        "No tokens are configured, and the request came from another machine, through a proxy, or under a host name other than "
        "`localhost`.",
        "Configure `server.tokens`, or open the dashboard on the machine of the daemon.",
    ),
    Code(
        "RC8303",
        "A form of the dashboard is not valid",
        "It was sent by another site, belongs to another session, or the dashboard is read only because no tokens are configured.",
        "Open the page again and repeat the action.",
    ),
    Code(
        "RC8304",
        "Too many pages are followed",
        "The number of open streams of the dashboard has reached its limit of 250.",
        "Reload the page to see changes. Close dashboard pages that are not in use.",
    ),
    Code(
        "RC8305",
        "There is no such page",
        "The address is wrong, or what it showed was deleted.",
        "Begin at the overview.",
    ),
    Code(
        "RC8306",
        "The login by OIDC failed",
        "The provider refused the login or cannot be read, its ID token is not valid, or no row of `server.login.oidc.roles` matches a claim "
        "of the person.",
        "Check `server.login.oidc` and the client at the provider, whose redirect URI must be `server.publicUrl` + `/login/oidc/callback`.",
    ),
    # 90xx internal errors
    Code(
        "RC9001",
        "Internal error",
        "The program reached a state that the code does not handle.",
        "Please report it with the log line. The daemon does not repeat a write with unknown outcome.",
    ),
)

LASTING = frozenset(
    [
        "RC2015",
        "RC3010",
        "RC3012",
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
"""Errors that a restart does not fix: ``reconciler run`` exits with `reconciler.model.exit_codes.EXIT_CONFIG`."""

CODES: dict[str, Code] = {code.id: code for code in _TABLE}
