# Parts of a real cluster, built from their Go modules: kube-apiserver and etcd, which `make deploy-test` needs, and helm.
# Versions are chosen in go.mod; each is built once and kept until that changes. kube-apiserver takes minutes.

CLUSTER := $(CACHE)/cluster/.ready $(CACHE)/helm/.ready

cluster: $(CLUSTER) ## Build the parts of a cluster that deploy-test needs

$(CACHE)/cluster/.ready: tests/deploy/cluster/go.mod tests/deploy/cluster/go.sum tests/deploy/cluster.mk
	mkdir -p $(@D)
	cd $(<D) && $(GO) build $(BUILD_TOOL) $(AS_KUBERNETES) -o $(abspath $(@D))/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
	cd $(<D) && $(GO) build $(BUILD_TOOL) $(PLAIN) -o $(abspath $(@D))/etcd go.etcd.io/etcd/server/v3
	@touch $@

$(CACHE)/helm/.ready: tests/deploy/helm/go.mod tests/deploy/helm/go.sum tests/deploy/cluster.mk
	mkdir -p $(@D)
	cd $(<D) && $(GO) build $(BUILD_TOOL) $(FOR_KUBERNETES) -o $(abspath $(@D))/helm helm.sh/helm/v3/cmd/helm
	@touch $@

BUILD_TOOL := -trimpath -buildvcs=false
PLAIN := -ldflags "-s -w"
# Which Kubernetes an API server says it is, and which one helm renders for without a server, is said to the linker. A
# chart with a kubeVersion cannot be installed otherwise.
KUBERNETES := $(shell awk '$$1 == "k8s.io/kubernetes" { print $$2 }' tests/deploy/cluster/go.mod)
VERSION_PARTS := $(subst ., ,$(KUBERNETES:v%=%))
AS_KUBERNETES = -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES)"
CHARTUTIL := helm.sh/helm/v3/pkg/chartutil.k8sVersion
FOR_KUBERNETES = -ldflags "-s -w -X $(CHARTUTIL)Major=$(word 1,$(VERSION_PARTS)) -X $(CHARTUTIL)Minor=$(word 2,$(VERSION_PARTS))"
