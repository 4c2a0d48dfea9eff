package studio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"studioworker/studio/client"
	"studioworker/studio/store"
)

// keyOf makes a pair of keys.
func keyOf(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public, string(secret)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configured starts NATS servers that speak TLS only, with the rest of their
// config as given, and returns their addresses. More than one are a cluster.
func configured(t *testing.T, size int, certs, tls, rest string) string {
	t.Helper()
	ports := freePorts(t, 2*size)
	var routes, urls []string
	for _, port := range ports[size:] {
		routes = append(routes, fmt.Sprintf("%q", fmt.Sprintf("nats://127.0.0.1:%d", port)))
	}
	for i := range size {
		cluster := ""
		if size > 1 {
			cluster = fmt.Sprintf("cluster { name: farm, listen: \"127.0.0.1:%d\", routes: [%s] }\n", ports[size+i], strings.Join(routes, ", "))
		}
		dir := t.TempDir()
		n := &natsServer{options: natsOptions{Config: writeFile(t, filepath.Join(dir, "nats.conf"), fmt.Sprintf(`
			server_name: n%d
			listen: "127.0.0.1:%d"
			max_payload: 8MB
			jetstream { store_dir: %q, max_file_store: 1GB, max_memory_store: 64MB, sync_interval: always }
			tls { cert_file: %q, key_file: %q, %s }
			%s%s`, i, ports[i], filepath.Join(dir, "store"), filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem"), tls, cluster, rest))}}
		n.start(t)
		t.Cleanup(n.kill)
		urls = append(urls, fmt.Sprintf("tls://127.0.0.1:%d", ports[i]))
	}
	return strings.Join(urls, ",")
}

// TestClusterBehindTLS: a studio shares a cluster that lets in only who has a
// certificate and the seed of a key that it knows.
func TestClusterBehindTLS(t *testing.T) {
	certs, strange := t.TempDir(), t.TempDir()
	for _, dir := range []string{certs, strange} {
		selfSigned(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	}
	_, public, seed := keyOf(t, nkeys.CreateUser)
	_, _, other := keyOf(t, nkeys.CreateUser)
	dir := t.TempDir()
	cert, key := filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem")
	good := store.Cluster{
		Creds: writeFile(t, filepath.Join(dir, "studio.nk"), seed+"\n"), CA: cert, Cert: cert, Key: key,
	}
	good.URL = configured(t, 3, certs, fmt.Sprintf("ca_file: %q, verify: true", cert), fmt.Sprintf("authorization { users: [{ nkey: %s }] }", public))
	share := func(c *Config) {
		cluster := good
		c.Data, c.Cluster = tokenFolder(t), &cluster
	}
	a, b := newFarm(t, share), newFarm(t, share)
	job := a.submit(t, imageJob)
	w := b.worker(t)
	if claim := w.connect(t, "").take(t); claim.JobID != job.ID {
		t.Fatalf("offered %s", claim.JobID)
	}
	w.deliver(t, job.ID, []byte("pixels"))
	a.await(t, job.ID, in(client.Done))
	if got, _ := a.fetch(t, job.ID); string(got) != "pixels" {
		t.Errorf("the result is %q", got)
	}

	for name, tc := range map[string]struct {
		change func(*store.Cluster)
		want   string
	}{
		"another authority": {func(c *store.Cluster) { c.CA = filepath.Join(strange, "cert.pem") }, "certificate"},
		"no authority":      {func(c *store.Cluster) { c.CA = "" }, "certificate"},
		"no certificate":    {func(c *store.Cluster) { c.Cert, c.Key = "", "" }, "tls"},
		"no such key file":  {func(c *store.Cluster) { c.Key = filepath.Join(dir, "none") }, "no such file"},
		"no credentials":    {func(c *store.Cluster) { c.Creds = "" }, "uthoriz"},
		"another's seed":    {func(c *store.Cluster) { c.Creds = writeFile(t, filepath.Join(dir, "other.nk"), other) }, "uthoriz"},
		"no such seed":      {func(c *store.Cluster) { c.Creds = filepath.Join(dir, "none") }, "read the credentials for NATS"},
		"not a seed":        {func(c *store.Cluster) { c.Creds = writeFile(t, filepath.Join(dir, "odd.nk"), "hello") }, "nor the seed of an nkey"},
		"without encryption": {func(c *store.Cluster) {
			c.URL = strings.ReplaceAll(c.URL, "tls://", "nats://sam:s3cret@")
			c.CA, c.Cert, c.Key = "", "", ""
		}, "connect to NATS"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := good
			tc.change(&cluster)
			_, err := New(Config{Data: tokenFolder(t), Listen: "127.0.0.1:0", Log: testLog(t), Cluster: &cluster})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New says %v, want %q", err, tc.want)
			}
			for _, hidden := range []string{seed, other, "s3cret"} {
				if err != nil && strings.Contains(err.Error(), hidden) {
					t.Errorf("the error tells a secret: %v", err)
				}
			}
		})
	}
}

// TestCredentialsWithAJWT: a server that trusts an operator lets the studio in by
// a credentials file, and is then refused since it is alone.
func TestCredentialsWithAJWT(t *testing.T) {
	operator, _, _ := keyOf(t, nkeys.CreateOperator)
	account, accountID, _ := keyOf(t, nkeys.CreateAccount)
	_, systemID, _ := keyOf(t, nkeys.CreateAccount)
	stranger, _, _ := keyOf(t, nkeys.CreateAccount)
	_, userID, seed := keyOf(t, nkeys.CreateUser)
	operatorID, err := operator.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	encode := func(claims jwt.Claims, by nkeys.KeyPair) string {
		t.Helper()
		text, err := claims.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	oc := jwt.NewOperatorClaims(operatorID)
	oc.SystemAccount = systemID
	ac := jwt.NewAccountClaims(accountID)
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	user := encode(jwt.NewUserClaims(userID), account)
	file, err := jwt.FormatUserConfig(user, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert := filepath.Join(dir, "cert.pem")
	selfSigned(t, cert, filepath.Join(dir, "key.pem"))
	url := configured(t, 1, dir, "timeout: 5", fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }",
		encode(oc, operator), systemID, accountID, encode(ac, operator), systemID, encode(jwt.NewAccountClaims(systemID), operator)))
	for name, tc := range map[string]struct{ creds, want string }{
		"let in": {string(file), "a NATS server alone"},
		"not":    {strings.ReplaceAll(string(file), user, encode(jwt.NewUserClaims(userID), stranger)), "uthoriz"},
	} {
		t.Run(name, func(t *testing.T) {
			creds := writeFile(t, filepath.Join(t.TempDir(), "studio.creds"), tc.creds)
			_, err := New(Config{Data: tokenFolder(t), Listen: "127.0.0.1:0", Log: testLog(t), Cluster: &store.Cluster{URL: url, CA: cert, Creds: creds}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New says %v, want %q", err, tc.want)
			}
		})
	}
}
