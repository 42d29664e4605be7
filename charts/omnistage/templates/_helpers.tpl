{{- define "omnistage.labels" -}}
app.kubernetes.io/name: omnistage
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: omnistage
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Labels by which the pods of launchers and of training jobs are known, in every release. */}}
{{- define "omnistage.launcherPods" -}}
app.kubernetes.io/name: omnistage
app.kubernetes.io/component: launcher
{{- end }}

{{- define "omnistage.trainerPods" -}}
app.kubernetes.io/name: omnistage
app.kubernetes.io/component: trainer
{{- end }}

{{- define "omnistage.launcherImage" -}}
{{- with .Values.image.launcher -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "omnistage.storeUri" -}}
{{ .Values.store.uri | default (ternary "file:///store" "" .Values.store.volume.enabled) }}
{{- end }}

{{- /* The restricted pod standard, as every pod of this project has it. */}}
{{- define "omnistage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "omnistage.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end }}

{{- /* The settings of training jobs: what the chart knows, and over it what the user set. */}}
{{- define "omnistage.launchSettings" -}}
{{- $known := dict
      "service_account" .Values.serviceAccounts.trainer.name
      "store_secret" .Values.store.secret
      "store_config" .Values.store.config -}}
{{- with .Values.image.pullSecrets }}{{ $_ := set $known "image_pull_secrets" . }}{{ end -}}
{{- if .Values.queue.create }}{{ $_ := set $known "queue" .Values.queue.name }}{{ end -}}
{{- if .Values.trainingRuntime.create }}{{ $_ := set $known "training_runtime" .Values.trainingRuntime.name }}{{ end -}}
{{- $settings := deepCopy .Values.launch.settings -}}
{{- with include "omnistage.claims" . | fromYamlArray }}{{ $_ := set $settings "volumes" . }}{{ end -}}
{{- toYaml (mergeOverwrite $known $settings) -}}
{{- end }}

{{- /* Claims mounted into every pod: the store's, then those of launch.settings.volumes. */}}
{{- define "omnistage.claims" -}}
{{- $claims := .Values.launch.settings.volumes | default list -}}
{{- if .Values.store.volume.enabled -}}
{{- $claims = prepend $claims (dict "claim" .Values.store.volume.claim "mount_path" "/store") -}}
{{- end -}}
{{- toYaml $claims -}}
{{- end }}

{{- define "omnistage.claimVolumes" -}}
{{- $names := list -}}
{{- range include "omnistage.claims" . | fromYamlArray }}{{ $names = append $names .claim }}{{ end -}}
{{- range uniq $names }}
- name: claim-{{ . }}
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end }}

{{- /* Takes the root context and whether nothing may be written. */}}
{{- define "omnistage.claimMounts" -}}
{{- $readOnly := .readOnly -}}
{{- range include "omnistage.claims" .root | fromYamlArray }}
- name: claim-{{ .claim }}
  mountPath: {{ .mount_path }}
  {{- with .sub_path }}
  subPath: {{ . }}
  {{- end }}
  {{- if or .read_only $readOnly }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}

{{- /* Any address but link-local ones, those of metadata services and the given ones. */}}
{{- define "omnistage.anywhereBut" -}}
{{- $four := list "169.254.0.0/16" "100.100.100.200/32" }}
{{- $six := list "fe80::/10" "fd00:ec2::254/128" -}}
{{- range . -}}
{{- if contains ":" . }}{{ $six = append $six . }}{{ else }}{{ $four = append $four . }}{{ end -}}
{{- end -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: {{ toJson $four }}
- ipBlock:
    cidr: ::/0
    except: {{ toJson $six }}
{{- end }}

{{- define "omnistage.tcpPorts" -}}
{{- $ports := list -}}
{{- range . }}{{ $ports = append $ports (dict "port" . "protocol" "TCP") }}{{ end -}}
{{- toYaml $ports -}}
{{- end }}

{{- /* Ports of the store: as given, else the one of its endpoint. */}}
{{- define "omnistage.storePorts" -}}
{{- $ports := .Values.networkPolicy.storePorts -}}
{{- if not $ports -}}
{{- $url := urlParse (.Values.store.s3.endpoint | default "https://s3") -}}
{{- $named := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $usual := ternary "80" "443" (eq $url.scheme "http") -}}
{{- $ports = list ($named | default $usual | int) -}}
{{- end -}}
{{- include "omnistage.tcpPorts" $ports -}}
{{- end }}

{{- define "omnistage.dnsRule" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{- /* The pods of training jobs by name, in PromQL: STAGE-KEY-ATTEMPT-… */}}
{{- define "omnistage.jobPods" -}}
namespace="{{ .Release.Namespace }}", pod=~"[a-z]+-[0-9a-f]{16}-[0-9]+-.+"
{{- end }}
