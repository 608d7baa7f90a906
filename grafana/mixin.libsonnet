// The dashboard and the rules as a mixin: what jsonnet-bundler fetches, and kube-prometheus and Tanka put to the others.
{
  grafanaDashboards+:: {
    'imds-proxy.json': import 'imds-proxy.json',
  },
  prometheusAlerts+:: {
    groups+: std.parseYaml(importstr 'alerts.yaml').groups,
  },
  prometheusRules+:: {
    groups+: std.parseYaml(importstr 'rules.yaml').groups,
  },
}
