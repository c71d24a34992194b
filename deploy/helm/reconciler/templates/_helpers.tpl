{{- define "reconciler.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "reconciler.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "reconciler.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "reconciler.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "reconciler.selector" -}}
app.kubernetes.io/name: {{ include "reconciler.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of the pod of `helm test`, which the Service must not select. */}}
{{- define "reconciler.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "reconciler.name" . | trunc 58) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "reconciler.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "reconciler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "reconciler.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "reconciler.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "reconciler.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "reconciler.masterKeySecret" -}}
{{- default (printf "%s-master-key" (include "reconciler.fullname" .)) .Values.masterKey.existingSecret -}}
{{- end -}}

{{- define "reconciler.claim" -}}
{{- default (printf "%s-state" (include "reconciler.fullname" .)) .Values.persistence.existingClaim -}}
{{- end -}}

{{/* The port of an ssh source; empty for every other source. */}}
{{- define "reconciler.sshPort" -}}
{{- $url := dig "source" "url" "" .Values.config -}}
{{- if hasPrefix "ssh://" $url -}}
{{- default "22" (regexFind ":[0-9]+$" (urlParse $url).host | trimPrefix ":") -}}
{{- else if and (not (contains "://" $url)) (regexMatch "^[^/]+:" $url) -}}
22
{{- end -}}
{{- end -}}

{{/* The port of an http or https URL; empty for every other text. */}}
{{- define "reconciler.urlPort" -}}
{{- if regexMatch "^https?://" . -}}
{{- default (ternary "443" "80" (hasPrefix "https:" .)) (regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":") -}}
{{- end -}}
{{- end -}}

{{/* The ports that the configuration names beside 443 as a JSON array: the repository, and the collector of traces. */}}
{{- define "reconciler.egressPorts" -}}
{{- $ports := list (include "reconciler.sshPort" .) (include "reconciler.urlPort" (dig "source" "url" "" .Values.config)) -}}
{{- if dig "telemetry" "enabled" false .Values.config -}}
{{- $ports = append $ports (include "reconciler.urlPort" (dig "telemetry" "endpoint" "http://localhost:4318/v1/traces" .Values.config)) -}}
{{- end -}}
{{- without (compact $ports | uniq) "443" | toJson -}}
{{- end -}}

{{/* Whether `env` names the certificates that the connection to PostgreSQL trusts. */}}
{{- define "reconciler.hasRootCertificate" -}}
{{- range .Values.env -}}{{- if eq .name "PGSSLROOTCERT" -}}true{{- end -}}{{- end -}}
{{- end -}}

{{/* Whether there is anything in the secrets folder. */}}
{{- define "reconciler.hasFolder" -}}
{{- if or .Values.secretFiles .Values.projectedTokens -}}true{{- end -}}
{{- end -}}

{{/* The environment. Settings that the image has as ENV are set here too, since the environment takes precedence over the file. */}}
{{- define "reconciler.env" -}}
{{- $v := .Values -}}
{{- $pg := $v.database.postgresql -}}
{{- if eq $v.database.type "sqlite" }}
- name: RECONCILER_STATE_URL
  value: sqlite:////var/lib/reconciler/state/state.db
{{- else if $pg.existingSecret }}
- name: RECONCILER_STATE_URL
  valueFrom:
    secretKeyRef:
      name: {{ quote $pg.existingSecret }}
      key: {{ quote $pg.key }}
{{- else }}
{{- if and (hasPrefix "verify-" $pg.sslMode) (not (include "reconciler.hasRootCertificate" .)) }}
- name: PGSSLROOTCERT
  value: /run/reconciler/ca.crt
{{- end }}
- name: RECONCILER_STATE_URL
  value: {{ printf "postgresql+psycopg://%s@%s:%d/%s?sslmode=%s" $pg.user $pg.host (int $pg.port) $pg.name $pg.sslMode | quote }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ quote $pg.passwordSecret.existingSecret }}
      key: {{ quote $pg.passwordSecret.key }}
{{- end }}
- name: RECONCILER_STATUS_FILE
  value: /var/lib/reconciler/state/status.json
- name: RECONCILER_MASTER_KEY_FILE
  value: /run/reconciler/master.key
{{- if $v.masterKey.previous.existingSecret }}
- name: RECONCILER_MASTER_KEY_PREVIOUS_FILE
  value: /run/reconciler/previous.key
{{- end }}
- name: RECONCILER_SERVER_LISTEN
  value: {{ ternary (printf "[%s]:8080" $v.listenAddress) (printf "%s:8080" $v.listenAddress) (contains ":" $v.listenAddress) | quote }}
- name: RECONCILER_SECRETS_FOLDER
  value: {{ ternary "/run/reconciler-secrets" "/var/lib/reconciler/secrets" (eq (include "reconciler.hasFolder" .) "true") }}
{{- if $v.git.token.existingSecret }}
- name: RECONCILER_SOURCE_AUTH_TOKEN_FILE
  value: /run/reconciler/git-token
{{- end }}
{{- if $v.git.sshKey.existingSecret }}
- name: RECONCILER_SOURCE_AUTH_SSH_KEY_FILE
  value: /run/reconciler/ssh-key
- name: RECONCILER_SOURCE_AUTH_KNOWN_HOSTS_FILE
  value: /run/reconciler/known-hosts
{{- end }}
{{- if $v.git.allowedSigners.existingConfigMap }}
- name: RECONCILER_SOURCE_VERIFY_ALLOWED_SIGNERS_FILE
  value: /run/reconciler/allowed-signers
{{- end }}
{{- if $v.sopsAgeKey.existingSecret }}
- name: RECONCILER_SECRETS_SOPS_AGE_KEY_FILE
  value: /run/reconciler/age.key
{{- end }}
{{- if $v.loginClientSecret.existingSecret }}
- name: RECONCILER_SERVER_LOGIN_OIDC_CLIENT_SECRET_FILE
  value: /run/reconciler/login-client-secret
{{- end }}
{{- if $v.caBundle.existingConfigMap }}
- name: RECONCILER_NETWORK_CA_BUNDLE
  value: /run/reconciler/ca.crt
{{- end }}
{{- range $v.env }}
- name: {{ quote .name }}
  {{- if .existingSecret }}
  valueFrom:
    secretKeyRef:
      name: {{ quote .existingSecret }}
      key: {{ quote .key }}
  {{- else if .valueFrom }}
  valueFrom:
    {{- toYaml .valueFrom | nindent 4 }}
  {{- else }}
  value: {{ .value | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "reconciler.projection" -}}
- {{ .kind }}:
    name: {{ quote .name }}
    items:
      - {key: {{ .key | quote }}, path: {{ .path }}}
{{- end -}}

{{/* The sources of the volume with the daemon's own credentials, which no manifest can read. */}}
{{- define "reconciler.credentials" -}}
{{- $v := .Values -}}
{{ include "reconciler.projection" (dict "kind" "secret" "name" (include "reconciler.masterKeySecret" .) "key" $v.masterKey.key "path" "master.key") }}
{{- $files := list
  (list "secret" $v.masterKey.previous.existingSecret $v.masterKey.previous.key "previous.key")
  (list "secret" $v.git.token.existingSecret $v.git.token.key "git-token")
  (list "secret" $v.git.sshKey.existingSecret $v.git.sshKey.key "ssh-key")
  (list "configMap" $v.git.knownHosts.existingConfigMap $v.git.knownHosts.key "known-hosts")
  (list "configMap" $v.git.allowedSigners.existingConfigMap $v.git.allowedSigners.key "allowed-signers")
  (list "secret" $v.sopsAgeKey.existingSecret $v.sopsAgeKey.key "age.key")
  (list "secret" $v.loginClientSecret.existingSecret $v.loginClientSecret.key "login-client-secret")
  (list "configMap" $v.caBundle.existingConfigMap $v.caBundle.key "ca.crt") -}}
{{- range $files }}
{{- if index . 1 }}
{{ include "reconciler.projection" (dict "kind" (index . 0) "name" (index . 1) "key" (index . 2) "path" (index . 3)) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The published paths as JSON: {"prefixes": […], "exact": […]}. The dashboard's are listed, so that /metrics and the probes stay inside. */}}
{{- define "reconciler.paths" -}}
{{- $prefixes := .Values.publicPaths.prefixes -}}
{{- $exact := list -}}
{{- if .Values.publicPaths.dashboard -}}
{{- $exact = list "/" -}}
{{- $prefixes = concat $prefixes (list "/actions" "/audit" "/credentials" "/events" "/executions" "/graph" "/live" "/login" "/logout" "/notifications" "/plan" "/resources" "/reviews" "/static") -}}
{{- end -}}
{{- dict "prefixes" (uniq $prefixes) "exact" $exact | toJson -}}
{{- end -}}

{{/* The rules of the HTTPRoute as JSON: [{"matches": […], "path": how it is rewritten}]. Each path below a prefix needs its own rewrite. */}}
{{- define "reconciler.rules" -}}
{{- $paths := include "reconciler.paths" . | fromJson -}}
{{- $base := trimSuffix "/" (urlParse .Values.config.server.publicUrl).path -}}
{{- $rules := list -}}
{{- $matches := list -}}
{{- range $paths.exact -}}
{{- $match := dict "path" (dict "type" "Exact" "value" (printf "%s%s" $base .)) -}}
{{- $matches = append $matches $match -}}
{{- $bare := dict "path" (dict "type" "Exact" "value" (printf "%s%s" $base . | trimSuffix "/")) -}}
{{- $rules = append $rules (dict "matches" (list $match $bare) "path" (dict "type" "ReplaceFullPath" "replaceFullPath" .)) -}}
{{- end -}}
{{- range $paths.prefixes -}}
{{- $match := dict "path" (dict "type" "PathPrefix" "value" (printf "%s%s" $base .)) -}}
{{- $matches = append $matches $match -}}
{{- $rules = append $rules (dict "matches" (list $match) "path" (dict "type" "ReplacePrefixMatch" "replacePrefixMatch" .)) -}}
{{- end -}}
{{- if not $base -}}
{{- $rules = list -}}
{{- range chunk 8 $matches -}}{{- $rules = append $rules (dict "matches" .) -}}{{- end -}}
{{- end -}}
{{- toJson $rules -}}
{{- end -}}
