{{/*
Values that cannot work are refused here, all at once, with the reason and what to write. values.schema.json has refused unknown keys
and wrong types before.
*/}}
{{- define "reconciler.check" -}}
{{- $problems := concat
  (include "reconciler.check.state" . | fromJsonArray)
  (include "reconciler.check.source" . | fromJsonArray)
  (include "reconciler.check.config" . | fromJsonArray)
  (include "reconciler.check.exposure" . | fromJsonArray)
  (include "reconciler.check.pods" . | fromJsonArray)
  (include "reconciler.check.mounts" . | fromJsonArray) -}}
{{- if $problems -}}
{{- fail (printf "\n\nThese values cannot work:\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}

{{- define "reconciler.check.state" -}}
{{- $v := .Values -}}
{{- $p := list -}}
{{- $sqlite := eq $v.database.type "sqlite" -}}
{{- $pg := $v.database.postgresql -}}
{{- if and $sqlite (gt (int $v.replicas) 1) -}}
{{- $p = append $p (printf "replicas is %d with SQLite, whose file only one process can use. Set replicas: 1, or database.type: postgresql with database.postgresql.existingSecret." (int $v.replicas)) -}}
{{- end -}}
{{- if and $sqlite (not $v.persistence.enabled) (not $v.persistence.ephemeral) -}}
{{- $p = append $p "persistence.enabled is false with SQLite: history, approvals and queued events are lost with each pod. Set persistence.enabled: true, or persistence.ephemeral: true if that is what you want." -}}
{{- end -}}
{{- if and $v.persistence.enabled $v.persistence.ephemeral -}}
{{- $p = append $p "persistence.enabled and persistence.ephemeral contradict each other. Set one of them to false." -}}
{{- end -}}
{{- if and $v.persistence.existingClaim (not $v.persistence.enabled) -}}
{{- $p = append $p "persistence.existingClaim is set, and persistence.enabled is false: the claim would not be used. Set persistence.enabled: true and persistence.ephemeral: false, or remove the claim." -}}
{{- end -}}
{{- if and $sqlite (or $pg.existingSecret $pg.host $pg.passwordSecret.existingSecret) -}}
{{- $p = append $p "database.postgresql is set, and database.type is sqlite. Set database.type: postgresql, or remove the values of database.postgresql." -}}
{{- end -}}
{{- if not $sqlite -}}
{{- if and $pg.existingSecret $pg.host -}}
{{- $p = append $p "database.postgresql.existingSecret (the whole URL) and database.postgresql.host exclude each other. Remove one of them." -}}
{{- else if and $pg.host (not $pg.passwordSecret.existingSecret) -}}
{{- $p = append $p "database.postgresql.host needs a password. Set database.postgresql.passwordSecret.existingSecret to the name of a Secret." -}}
{{- else if not (or $pg.existingSecret $pg.host) -}}
{{- $p = append $p "database.type is postgresql, and there is no URL of a database. Set database.postgresql.existingSecret to a Secret whose key `url` is postgresql+psycopg://USER:PASSWORD@HOST/NAME." -}}
{{- end -}}
{{- if and $pg.host (hasPrefix "verify-" $pg.sslMode) (not $v.caBundle.existingConfigMap) (not (include "reconciler.hasRootCertificate" .)) -}}
{{- $p = append $p (printf "database.postgresql.sslMode is %s, which needs the certificates of an authority. Set caBundle.existingConfigMap, or mount them with extraVolumes and add to env: {name: PGSSLROOTCERT, value: PATH}." $pg.sslMode) -}}
{{- end -}}
{{- if $v.persistence.existingClaim -}}
{{- $p = append $p "persistence.existingClaim is for SQLite; with PostgreSQL the state is in the database. Remove it." -}}
{{- end -}}
{{- end -}}
{{- $key := $v.masterKey -}}
{{- if and $key.existingSecret $key.value -}}
{{- $p = append $p "masterKey.existingSecret and masterKey.value exclude each other. Remove one of them." -}}
{{- else if not (or $key.existingSecret $key.value) -}}
{{- $p = append $p "there is no master key, from which all signing keys are derived. Create one (kubectl create secret generic reconciler-master-key --from-literal=master.key=\"$(openssl rand -base64 32)\") and set masterKey.existingSecret: reconciler-master-key. Keep a copy outside the cluster." -}}
{{- else if and $key.value (not (regexMatch "^[A-Za-z0-9+/]{43}=$" $key.value)) -}}
{{- $p = append $p "masterKey.value is not base64 of 32 bytes. Create one with: openssl rand -base64 32" -}}
{{- end -}}
{{- if and $key.previous.existingSecret (eq $key.previous.existingSecret $key.existingSecret) (eq $key.previous.key $key.key) -}}
{{- $p = append $p "masterKey.previous is the same key of the same Secret as masterKey. Name the Secret of the old key, or remove masterKey.previous." -}}
{{- end -}}
{{- toJson $p -}}
{{- end -}}

{{- define "reconciler.check.source" -}}
{{- $v := .Values -}}
{{- $p := list -}}
{{- $url := dig "source" "url" "" $v.config -}}
{{- $ssh := include "reconciler.sshPort" . -}}
{{- if not $url -}}
{{- $p = append $p "config.source.url is not set: the repository of the manifests. Set it to an https or ssh URL." -}}
{{- else if and (not $ssh) (not (hasPrefix "https://" $url)) (not (hasPrefix "http://" $url)) -}}
{{- $p = append $p (printf "config.source.url is %q: a folder of a pod has no manifests. Set it to an https or ssh URL." $url) -}}
{{- else if regexMatch "^https?://[^/]*@" $url -}}
{{- $p = append $p "config.source.url has credentials in it. Remove them, and set git.token.existingSecret to a Secret with the token." -}}
{{- end -}}
{{- if and $ssh (not (and $v.git.sshKey.existingSecret $v.git.knownHosts.existingConfigMap)) -}}
{{- $p = append $p "config.source.url is ssh, which needs a key and the host keys of the server. Set git.sshKey.existingSecret and git.knownHosts.existingConfigMap." -}}
{{- end -}}
{{- if and $url (not $ssh) $v.git.sshKey.existingSecret -}}
{{- $p = append $p "git.sshKey is set, and config.source.url is not ssh. Use git.token.existingSecret for https, or an ssh URL." -}}
{{- end -}}
{{- if and $ssh $v.git.token.existingSecret -}}
{{- $p = append $p "git.token is for https, and config.source.url is ssh. Remove git.token." -}}
{{- end -}}
{{- toJson $p -}}
{{- end -}}

{{/* Keys of the configuration that the chart sets, and the value to use instead. */}}
{{- define "reconciler.check.config" -}}
{{- $p := list -}}
{{- $owned := list
  (list "state" "url" "" "database")
  (list "status" "file" "" "nothing: the chart sets it")
  (list "masterKey" "file" "" "masterKey.existingSecret")
  (list "masterKey" "previousFile" "" "masterKey.previous.existingSecret")
  (list "server" "listen" "" "listenAddress; the port is 8080")
  (list "secrets" "folder" "" "secretFiles")
  (list "secrets" "sops" "ageKeyFile" "sopsAgeKey.existingSecret")
  (list "source" "auth" "tokenFile" "git.token.existingSecret")
  (list "source" "auth" "sshKeyFile" "git.sshKey.existingSecret")
  (list "source" "auth" "knownHostsFile" "git.knownHosts.existingConfigMap")
  (list "source" "verify" "allowedSignersFile" "git.allowedSigners.existingConfigMap")
  (list "network" "caBundle" "" "caBundle.existingConfigMap") -}}
{{- range $owned -}}
{{- $section := default dict (get $.Values.config (index . 0)) -}}
{{- $path := printf "config.%s.%s" (index . 0) (index . 1) -}}
{{- $value := get $section (index . 1) -}}
{{- if index . 2 -}}
{{- $value = get (default dict $value) (index . 2) -}}
{{- $path = printf "%s.%s" $path (index . 2) -}}
{{- end -}}
{{- if $value -}}
{{- $p = append $p (printf "%s has no effect in a pod of this chart. Remove it, and use %s." $path (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- if dig "telemetry" "headers" "" .Values.config -}}
{{- $p = append $p "config.telemetry.headers has a credential, and the configuration is in a ConfigMap. Put the headers into a Secret, and add to env: {name: RECONCILER_TELEMETRY_HEADERS, existingSecret: NAME, key: KEY}." -}}
{{- end -}}
{{- $login := dig "server" "login" "oidc" dict .Values.config -}}
{{- $file := get $login "clientSecretFile" -}}
{{- if $file -}}
{{- $p = append $p "config.server.login.oidc.clientSecretFile has no effect in a pod of this chart. Remove it, and use loginClientSecret.existingSecret." -}}
{{- end -}}
{{- if and .Values.loginClientSecret.existingSecret (not (get $login "issuer")) -}}
{{- $p = append $p "loginClientSecret is set, and config.server.login.oidc.issuer is not. Set the issuer, or remove loginClientSecret." -}}
{{- end -}}
{{- if contains "@" (dig "network" "proxy" "" .Values.config) -}}
{{- $p = append $p "config.network.proxy has credentials, and the configuration is in a ConfigMap. Put the URL into a Secret, and add to env: {name: RECONCILER_NETWORK_PROXY, existingSecret: NAME, key: KEY}." -}}
{{- end -}}
{{- $public := dig "server" "publicUrl" "" .Values.config -}}
{{- if and $public (not (hasPrefix "https://" $public)) -}}
{{- $host := regexReplaceAll "^\\[?(.*?)\\]?(:[0-9]+)?$" (urlParse $public).host "${1}" -}}
{{- if not (or (eq $host "localhost") (eq $host "::1") (hasPrefix "127." $host)) -}}
{{- $p = append $p (printf "config.server.publicUrl is %q: providers would send events unencrypted over the network. Set an https URL; TLS ends at the Ingress, the Gateway or a load balancer." $public) -}}
{{- end -}}
{{- end -}}
{{- toJson $p -}}
{{- end -}}

{{- define "reconciler.check.exposure" -}}
{{- $v := .Values -}}
{{- $p := list -}}
{{- $public := dig "server" "publicUrl" "" $v.config -}}
{{- $url := urlParse (default "https://" $public) -}}
{{- $login := dig "server" "login" "oidc" "issuer" "" $v.config -}}
{{- if and $v.ingress.enabled $v.gateway.enabled (eq $v.ingress.host $v.gateway.host) -}}
{{- $p = append $p (printf "ingress and gateway both serve %q: which of them a delivery takes would depend on DNS. Enable one of them, or use two hosts." $v.ingress.host) -}}
{{- end -}}
{{- if $v.ingress.enabled -}}
{{- if not $v.ingress.host -}}
{{- $p = append $p "ingress.enabled needs ingress.host; without it the Ingress would serve every host of the cluster. Set it to the host of config.server.publicUrl." -}}
{{- end -}}
{{- if and (not $v.ingress.tls.secretName) (not $v.ingress.tls.external) -}}
{{- $p = append $p "ingress has no TLS. Set ingress.tls.secretName to a Secret with the certificate, or ingress.tls.external: true if TLS ends at a load balancer." -}}
{{- end -}}
{{- if and $v.ingress.tls.secretName $v.ingress.tls.external -}}
{{- $p = append $p "ingress.tls.secretName and ingress.tls.external exclude each other. Remove one of them." -}}
{{- end -}}
{{- if and $public (not (has $url.path (list "" "/"))) -}}
{{- $p = append $p (printf "config.server.publicUrl has the path %q, which an Ingress does not remove. Use a host without a path, or gateway." $url.path) -}}
{{- end -}}
{{- end -}}
{{- if $v.gateway.enabled -}}
{{- if not $v.gateway.host -}}
{{- $p = append $p "gateway.enabled needs gateway.host. Set it to the host of config.server.publicUrl." -}}
{{- end -}}
{{- if not $v.gateway.parentRefs -}}
{{- $p = append $p "gateway.enabled needs gateway.parentRefs: the Gateways whose listeners serve the host, for example [{name: public, namespace: gateways}]." -}}
{{- end -}}
{{- end -}}
{{- $hosts := list -}}
{{- if $v.ingress.enabled -}}{{- $hosts = append $hosts $v.ingress.host -}}{{- end -}}
{{- if $v.gateway.enabled -}}{{- $hosts = append $hosts $v.gateway.host -}}{{- end -}}
{{- $hosts = compact $hosts -}}
{{- if and $hosts (not $public) -}}
{{- $p = append $p (printf "config.server.publicUrl is not set, and no webhook would be created. Set it to https://%s" (first $hosts)) -}}
{{- else if and $hosts (not (has (regexReplaceAll ":[0-9]+$" (lower $url.host) "") $hosts)) -}}
{{- $p = append $p (printf "providers send events to %q (config.server.publicUrl), and ingress and gateway serve %s. Use the same host." $url.host (join ", " $hosts)) -}}
{{- end -}}
{{- if and $hosts $login (not $v.publicPaths.dashboard) -}}
{{- $p = append $p "config.server.login.oidc sends people back to the public URL, and publicPaths.dashboard is false: the login could not end. Set publicPaths.dashboard: true, or remove the login." -}}
{{- end -}}
{{- range $v.publicPaths.prefixes -}}
{{- if or (eq . "/") (hasPrefix "/metrics" .) (hasPrefix "/healthz" .) (hasPrefix "/readyz" .) -}}
{{- $p = append $p (printf "publicPaths.prefixes has %q, which publishes metrics and probes without authentication. Name the paths that are needed; publicPaths.dashboard: true adds those of the dashboard." .) -}}
{{- end -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.networkPolicy.enabled $v.networkPolicy.ingressFrom (not $v.networkPolicy.metricsFrom) -}}
{{- $p = append $p "metrics.serviceMonitor is enabled, and the NetworkPolicy lets nobody but networkPolicy.ingressFrom in: Prometheus could not scrape. Set networkPolicy.metricsFrom to the peers of Prometheus." -}}
{{- end -}}
{{- $monitor := $v.metrics.serviceMonitor -}}
{{- if and $monitor.enabled (gt (include "reconciler.milliseconds" $monitor.scrapeTimeout | int64) (include "reconciler.milliseconds" $monitor.interval | int64)) -}}
{{- $p = append $p (printf "metrics.serviceMonitor.scrapeTimeout is %s, and the interval %s: Prometheus refuses that. Set it to less than the interval." $monitor.scrapeTimeout $monitor.interval) -}}
{{- end -}}
{{- $rule := $v.metrics.prometheusRule -}}
{{- if $rule.enabled -}}
{{- $text := default (.Files.Get "files/rules.yaml") $rule.rules -}}
{{- if not $text -}}
{{- $p = append $p "metrics.prometheusRule is enabled, and this chart has no files/rules.yaml. Give a Prometheus rule file: --set-file metrics.prometheusRule.rules=FILE" -}}
{{- else if not (get (fromYaml $text) "groups") -}}
{{- $p = append $p "metrics.prometheusRule.rules is no Prometheus rule file: it has no groups. Give one: --set-file metrics.prometheusRule.rules=FILE" -}}
{{- end -}}
{{- end -}}
{{- toJson $p -}}
{{- end -}}

{{/* Milliseconds of a duration of Prometheus, such as 1m30s. */}}
{{- define "reconciler.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 "y" 31536000000 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[smhdwy])" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int64) (get $units $unit | int64)) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{- define "reconciler.check.pods" -}}
{{- $v := .Values -}}
{{- $p := list -}}
{{- if and (not $v.image.digest) (eq $v.image.tag "latest") -}}
{{- $p = append $p "image.tag is latest: a restarted pod could run another version than its peers, and a rollback would change nothing. Set a version, or image.digest." -}}
{{- end -}}
{{- if and $v.podDisruptionBudget.enabled (ge (int $v.podDisruptionBudget.minAvailable) (int $v.replicas)) -}}
{{- $p = append $p (printf "podDisruptionBudget.minAvailable is %d of %d replicas: no node with a pod could be drained. Set it to less than replicas%s." (int $v.podDisruptionBudget.minAvailable) (int $v.replicas) (ternary ", or disable it: with one pod a budget only blocks drains" "" (eq (int $v.replicas) 1))) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" (include "reconciler.fullname" .)) -}}
{{- $p = append $p (printf "the name of the Service would be %q, which must begin with a letter and have only lower-case letters, digits and dashes. Set fullnameOverride, or another name of the release." (include "reconciler.fullname" .)) -}}
{{- end -}}
{{- $own := concat (keys (include "reconciler.selector" . | fromYaml)) (list "helm.sh/chart" "app.kubernetes.io/version" "app.kubernetes.io/managed-by") -}}
{{- range $name, $labels := dict "commonLabels" $v.commonLabels "podLabels" $v.podLabels "metrics.serviceMonitor.labels" $v.metrics.serviceMonitor.labels "metrics.prometheusRule.labels" $v.metrics.prometheusRule.labels -}}
{{- range $label, $_ := $labels -}}
{{- if has $label $own -}}
{{- $p = append $p (printf "%s has %q, a label of the chart, by which its objects select the pods. Choose another one." $name $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $label, $_ := $v.podLabels -}}
{{- if hasKey $v.commonLabels $label -}}
{{- $p = append $p (printf "podLabels has %q, which commonLabels has too. Remove it from one of them." $label) -}}
{{- end -}}
{{- end -}}
{{- $least := add 35 (int $v.preStopSeconds) -}}
{{- if lt (int $v.terminationGracePeriodSeconds) (int $least) -}}
{{- $p = append $p (printf "terminationGracePeriodSeconds is %d: the pod would be killed while it drains. The daemon needs up to 30 seconds after preStopSeconds (%d), and 5 to exit: set %d or more." (int $v.terminationGracePeriodSeconds) (int $v.preStopSeconds) $least) -}}
{{- end -}}
{{- range $v.env -}}
{{- if and (hasPrefix "RECONCILER_" .name) (not (hasPrefix "RECONCILER_SECRET_" .name)) (not (has (trimSuffix "_FILE" .name) (list "RECONCILER_NETWORK_PROXY" "RECONCILER_TELEMETRY_HEADERS"))) -}}
{{- $p = append $p (printf "env %s is a setting of the daemon, and would escape the checks of config. Set its key in config, or the value of the chart for it." .name) -}}
{{- else if gt (len (pick . "value" "existingSecret" "valueFrom")) 1 -}}
{{- $p = append $p (printf "env %s has more than one of value, existingSecret and valueFrom. Keep one of them." .name) -}}
{{- else if and (hasKey . "existingSecret") (not (hasKey . "key")) -}}
{{- $p = append $p (printf "env %s has no key of the Secret %s. Set key." .name .existingSecret) -}}
{{- else if not (pick . "value" "existingSecret" "valueFrom") -}}
{{- $p = append $p (printf "env %s has no value. Set value, or existingSecret and key." .name) -}}
{{- else if and (or (hasPrefix "RECONCILER_SECRET_" .name) (eq .name "RECONCILER_TELEMETRY_HEADERS")) (not (hasSuffix "_FILE" .name)) (hasKey . "value") -}}
{{- $p = append $p (printf "env %s has its value in the values of the release, where everyone who can read the Deployment reads it. Put it into a Secret, and set existingSecret and key." .name) -}}
{{- end -}}
{{- end -}}
{{- toJson $p -}}
{{- end -}}

{{- define "reconciler.check.mounts" -}}
{{- $v := .Values -}}
{{- $p := list -}}
{{- $names := list -}}
{{- range (include "reconciler.env" . | fromYamlArray) -}}
{{- if and (has .name $names) (or (not (hasPrefix "RECONCILER_" .name)) (hasPrefix "RECONCILER_SECRET_" .name)) -}}
{{- $p = append $p (printf "env %s is set twice, or is set by the chart. Remove it from env." .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $v.extraVolumes -}}
{{- if has .name (list "config" "credentials" "secrets" "state" "tmp") -}}
{{- $p = append $p (printf "extraVolumes has %q, a volume of the chart. Choose another name." .name) -}}
{{- end -}}
{{- if hasKey . "hostPath" -}}
{{- $p = append $p (printf "extraVolumes %q is a hostPath, which the Pod Security Standard `restricted` refuses. Use a claim, a ConfigMap, a Secret or a CSI volume." .name) -}}
{{- end -}}
{{- end -}}
{{- range $v.extraVolumeMounts -}}
{{- if has (trimSuffix "/" .mountPath) (list "/etc/reconciler" "/run/reconciler" "/run/reconciler-secrets" "/var/lib/reconciler" "/tmp") -}}
{{- $p = append $p (printf "extraVolumeMounts has %q, a mount of the chart. Choose another path." .mountPath) -}}
{{- end -}}
{{- end -}}
{{- $volumes := list "config" "credentials" "secrets" "state" "tmp" -}}
{{- range $v.extraVolumes -}}{{- $volumes = append $volumes .name -}}{{- end -}}
{{- range $v.extraVolumeMounts -}}
{{- if not (has .name $volumes) -}}
{{- $p = append $p (printf "extraVolumeMounts has %q, and extraVolumes has no volume of that name. Add it there." .name) -}}
{{- end -}}
{{- end -}}
{{- range $v.extraContainers -}}
{{- $security := default dict .securityContext -}}
{{- $dropped := default list (get (default dict $security.capabilities) "drop") -}}
{{- if eq .name "reconciler" -}}
{{- $p = append $p "extraContainers has \"reconciler\", the container of the chart. Choose another name." -}}
{{- else if not (and (eq (toString (get $security "allowPrivilegeEscalation")) "false") (has "ALL" $dropped)) -}}
{{- $p = append $p (printf "extraContainers %q may gain privileges, which the Pod Security Standard `restricted` refuses. Add securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}." .name) -}}
{{- end -}}
{{- end -}}
{{- $secrets := list $v.database.postgresql.existingSecret $v.database.postgresql.passwordSecret.existingSecret (include "reconciler.masterKeySecret" .) $v.masterKey.previous.existingSecret $v.git.token.existingSecret $v.git.sshKey.existingSecret $v.sopsAgeKey.existingSecret $v.loginClientSecret.existingSecret -}}
{{- range $v.secretFiles -}}
{{- if has .existingSecret (compact $secrets) -}}
{{- $p = append $p (printf "secretFiles has %q, a Secret with a credential of the daemon itself, which manifests could read then. Use separate Secrets." .existingSecret) -}}
{{- end -}}
{{- end -}}
{{- $paths := list -}}
{{- range $v.secretFiles -}}
{{- range .items -}}
{{- if has .path $paths -}}
{{- $p = append $p (printf "secretFiles has the path %q twice. Give each file its own path." .path) -}}
{{- end -}}
{{- $paths = append $paths .path -}}
{{- end -}}
{{- end -}}
{{- range $v.projectedTokens -}}
{{- $path := printf "tokens/%s" .name -}}
{{- if has $path $paths -}}
{{- $p = append $p (printf "projectedTokens and secretFiles have the path %q twice. Give each file its own path." $path) -}}
{{- end -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- if and $v.projectedTokens (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- $p = append $p "projectedTokens without a ServiceAccount of its own would be tokens of `default`, which every pod of the namespace has. Set serviceAccount.create: true, or serviceAccount.name." -}}
{{- end -}}
{{- toJson $p -}}
{{- end -}}
