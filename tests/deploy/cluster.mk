# Parts of a real cluster, built from their Go modules: kube-apiserver and etcd, which `make deploy-test` needs, and helm.
# Versions are chosen in go.mod; each is built once and kept until that changes. kube-apiserver takes minutes.

CLUSTER := $(CACHE)/cluster/.ready $(CACHE)/helm/.ready

cluster: $(CLUSTER) ## Build the parts of a cluster that deploy-test needs

$(CACHE)/cluster/.ready: tests/deploy/cluster/go.mod tests/deploy/cluster/go.sum tests/deploy/cluster.mk
	mkdir -p $(@D)
	cd $(<D) && $(GO) build $(BUILD_TOOL) -o $(abspath $(@D))/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
	cd $(<D) && $(GO) build $(BUILD_TOOL) -o $(abspath $(@D))/etcd go.etcd.io/etcd/server/v3
	@touch $@

$(CACHE)/helm/.ready: tests/deploy/helm/go.mod tests/deploy/helm/go.sum tests/deploy/cluster.mk
	mkdir -p $(@D)
	cd $(<D) && $(GO) build $(BUILD_TOOL) -o $(abspath $(@D))/helm helm.sh/helm/v3/cmd/helm
	@touch $@

BUILD_TOOL := -trimpath -buildvcs=false -ldflags "-s -w"
