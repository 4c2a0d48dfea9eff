package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster says how to reach a JetStream cluster that keeps the records instead
// of the server inside the process. Any number of processes may share it.
type Cluster struct {
	URL      string   // nats:// or tls:// addresses, separated by commas
	Creds    string   // file with a user's JWT and seed, or with the seed of an nkey alone; empty: none
	CA       string   // PEM file of the authority that signed the servers' certificates; empty: the system's
	Cert     string   // PEM file; with Key the studio shows who it is
	Key      string   // PEM file
	Monitors []string // http addresses of the servers' monitoring, to check how they sync
}

const (
	replicas       = 3 // of everything; fewer servers are refused
	clusterLimit   = time.Minute
	clusterWait    = 500 * time.Millisecond // between two tries
	monitorLimit   = 5 * time.Second
	maxMonitor     = 1 << 20 // bytes of an answer
	maxCreds       = 64 << 10
	minPayload     = 2 * chunkBytes
	clusterTopic   = "studio." // before the topics of messages between processes
	connectedLimit = 5 * time.Second
	tryLimit       = 10 * time.Second
	silentReplica  = 5 * time.Second
	notClustered   = 10074 // code of a server that can keep one copy only
)

// join connects to a cluster and opens the buckets there.
func (s *Store) join(ctx context.Context) (err error) {
	c := s.cfg.Cluster
	opts := []nats.Option{
		nats.Name("studio"), nats.MaxReconnects(-1), nats.ReconnectWait(clusterWait), nats.Timeout(connectedLimit),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), // a server that froze is left soon
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { s.log.Warn("the connection to NATS is gone", "error", err) }),
		nats.ReconnectHandler(func(c *nats.Conn) { s.log.Info("connected to NATS again", "server", c.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.log.Warn("NATS reports a fault", "error", err) }),
	}
	if c.Creds != "" {
		who, err := credentials(c.Creds)
		if err != nil {
			return err
		}
		opts = append(opts, who)
	}
	if c.CA != "" {
		opts = append(opts, nats.RootCAs(c.CA))
	}
	if c.Cert != "" || c.Key != "" {
		opts = append(opts, nats.ClientCert(c.Cert, c.Key))
	}
	if s.conn, err = nats.Connect(c.URL, opts...); err != nil {
		return fmt.Errorf("connect to NATS at %s: %w", withoutPasswords(c.URL), err)
	}
	if most := s.conn.MaxPayload(); most < minPayload {
		return fmt.Errorf("the NATS servers take messages of at most %d bytes; set max_payload: 8MB in their config", most)
	} else if most < maxRecord {
		s.log.Warn("the NATS servers take no large messages: jobs with long texts will be refused; set max_payload: 8MB in their config", "max_payload", most)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	for { // the servers may be choosing a leader, and other studios open the same buckets
		if err = s.tryOpen(ctx); err == nil {
			break
		}
		if failed, ok := errors.AsType[*jetstream.APIError](err); ok && failed.ErrorCode == notClustered {
			return fmt.Errorf("the studio keeps %d copies of everything, and this is a NATS server alone: name a cluster of at least %d servers with JetStream, or leave --nats out: %w", replicas, replicas, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("open the cluster, which needs %d NATS servers with JetStream: %w", replicas, err)
		case <-time.After(clusterWait):
		}
	}
	asking := context.WithoutCancel(ctx)
	s.ask = func() error {
		ctx, cancel := context.WithTimeout(asking, healthLimit)
		defer cancel()
		return s.quorum(ctx)
	}
	s.durability = s.verifyDurability(ctx)
	s.log.Info("the studio shares a NATS cluster", "servers", len(s.conn.Servers()), "durability", s.durability)
	return nil
}

// credentials reads who the studio is to the servers. The seed does not stay in
// memory: it is read again at each connection.
func credentials(path string) (nats.Option, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the credentials for NATS: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxCreds))
	if err != nil {
		return nil, fmt.Errorf("read the credentials for NATS: %w", err)
	}
	defer clear(data)
	if bytes.Contains(data, []byte("BEGIN NATS USER JWT")) {
		return nats.UserCredentials(path), nil
	}
	who, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("%s holds neither the JWT and seed of a NATS user nor the seed of an nkey (SU...): %w", path, err)
	}
	return who, nil
}

// withoutPasswords returns addresses as they may be shown.
func withoutPasswords(addresses string) string {
	all := strings.Split(addresses, ",")
	for i, address := range all {
		if u, err := url.Parse(address); err == nil {
			all[i] = u.Redacted()
		} else if strings.Contains(address, "@") {
			all[i] = "(an address that cannot be read)"
		}
	}
	return strings.Join(all, ",")
}

// tryOpen opens the buckets, within the time that servers with a leader need.
func (s *Store) tryOpen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	s.kvs = nil
	return s.open(ctx)
}

// openShared opens a bucket of the cluster, and makes it when it is not there
// yet. Reads ask the leader: a copy may be behind.
func (s *Store) openShared(ctx context.Context, name string) (jetstream.KeyValue, error) {
	_, err := s.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
		})
	}
	if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
		err = s.readLeader(ctx, "KV_"+name)
	}
	if err != nil {
		return nil, err
	}
	return s.js.KeyValue(ctx, name)
}

func (s *Store) openSharedResults(ctx context.Context) (jetstream.ObjectStore, error) {
	_, err := s.js.ObjectStore(ctx, resultBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: resultBucket, Storage: jetstream.FileStorage, Replicas: replicas})
	}
	if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
		err = s.readLeader(ctx, resultStream)
	}
	if err != nil {
		return nil, err
	}
	return s.js.ObjectStore(ctx, resultBucket)
}

// readLeader makes sure that a stream has its copies and answers from its
// leader.
func (s *Store) readLeader(ctx context.Context, name string) error {
	str, err := s.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	cfg := str.CachedInfo().Config
	if cfg.Replicas < replicas {
		return fmt.Errorf("%s has %d copies, not %d", name, cfg.Replicas, replicas)
	}
	if !cfg.AllowDirect {
		return nil
	}
	cfg.AllowDirect = false
	_, err = s.js.UpdateStream(ctx, cfg)
	return err
}

// The words for how sure it is that what the cluster acknowledged is on disks.
const (
	durable    = "verified: the NATS servers sync each write"
	unverified = "not verified: name the servers' monitoring addresses with --nats-monitor"
	lazy       = "NOT given: a power cut at all servers can lose seconds of work; set sync_interval: always in the jetstream config of "
)

// verifyDurability asks the servers whether they sync each write.
func (s *Store) verifyDurability(ctx context.Context) string {
	if len(s.cfg.Cluster.Monitors) == 0 {
		return unverified
	}
	var slack, silent []string
	for _, address := range s.cfg.Cluster.Monitors {
		always, err := syncsAlways(ctx, address)
		switch {
		case err != nil:
			silent = append(silent, fmt.Sprintf("%s (%v)", address, err))
		case !always:
			slack = append(slack, address)
		}
	}
	switch {
	case len(slack) > 0:
		return lazy + strings.Join(slack, ", ")
	case len(silent) > 0:
		return "not verified: no answer from " + strings.Join(silent, ", ")
	case len(s.cfg.Cluster.Monitors) < replicas:
		return fmt.Sprintf("not verified: %d of at least %d servers were asked", len(s.cfg.Cluster.Monitors), replicas)
	}
	return durable
}

func syncsAlways(ctx context.Context, address string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, monitorLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(address, "/")+"/jsz?config=true", nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxMonitor))
	if err != nil {
		return false, err
	}
	return decodeMonitor(resp.StatusCode, data)
}

func decodeMonitor(status int, data []byte) (bool, error) {
	var answer struct {
		Config *struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	}
	if status != http.StatusOK || json.Unmarshal(data, &answer) != nil || answer.Config == nil {
		return false, fmt.Errorf("it answers %d without its JetStream config", status)
	}
	return answer.Config.SyncAlways, nil
}

// quorum says whether most servers of the cluster work together. A leader that
// lost the others answers for a while as if nothing were.
func (s *Store) quorum(ctx context.Context) error {
	for _, name := range s.streams() {
		str, err := s.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("the NATS cluster does not answer: %w", err)
		}
		info := str.CachedInfo().Cluster
		if info == nil {
			continue
		}
		well := 1 // the leader, who answers
		for _, r := range info.Replicas {
			if !r.Offline && r.Active < silentReplica {
				well++
			}
		}
		if 2*well <= len(info.Replicas)+1 || info.Leader == "" {
			return fmt.Errorf("the NATS cluster has no quorum: %d of %d servers keep %s", well, len(info.Replicas)+1, name)
		}
	}
	return nil
}

// Shared says whether other processes may use the store at the same time.
func (s *Store) Shared() bool { return s.local == nil }

// Durability says in words how sure it is that what was acknowledged is on a
// disk.
func (s *Store) Durability() string {
	if s.local != nil {
		return durable
	}
	return s.durability
}

// Tell sends a message to all processes that share the store, this one
// included. It may be lost; a topic is one to three words with dots between.
func (s *Store) Tell(topic string, data []byte) error {
	if err := s.conn.Publish(clusterTopic+topic, data); err != nil {
		return fmt.Errorf("tell the other studios: %w", err)
	}
	return nil
}

// Hear calls f with each message on a topic, one after the other, until stop is
// called; the topic may have the wildcard *.
func (s *Store) Hear(topic string, f func(topic string, data []byte)) (stop func() error, err error) {
	sub, err := s.conn.Subscribe(clusterTopic+topic, func(m *nats.Msg) { f(strings.TrimPrefix(m.Subject, clusterTopic), m.Data) })
	if err != nil {
		return nil, fmt.Errorf("listen to the other studios: %w", err)
	}
	done := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(done) })
	return func() error {
		err := sub.Unsubscribe()
		if errors.Is(err, nats.ErrConnectionClosed) {
			return nil
		}
		if err == nil {
			<-done // f runs no more
		}
		return err
	}, nil
}

// Change is a change of a record that some process made.
type Change[T any] struct {
	ID      string
	Entry   Entry[T]
	Deleted bool
}

// Follow calls f with each change since All read the bucket, this process's own
// too, in the order of the writes to a record, until ctx ends. Calls may overlap
// for different records. A record that cannot be read is told to bad.
func (b *Bucket[T]) Follow(ctx context.Context, f func(Change[T]), bad func(error)) {
	ended := make(chan struct{}, len(b.shards))
	for i, kv := range b.shards {
		go func() {
			b.follow(ctx, kv, b.read[i].Load(), f, bad)
			ended <- struct{}{}
		}()
	}
	for range b.shards {
		<-ended
	}
}

func (b *Bucket[T]) follow(ctx context.Context, kv jetstream.KeyValue, since uint64, f func(Change[T]), bad func(error)) {
	for ctx.Err() == nil {
		w, err := kv.WatchAll(ctx, jetstream.ResumeFromRevision(since+1))
		if err != nil {
			if ctx.Err() == nil {
				bad(fmt.Errorf("follow the bucket %s: %w", kv.Bucket(), err))
			}
			select { // the servers may be choosing a leader
			case <-ctx.Done():
			case <-time.After(clusterWait):
			}
			continue
		}
		for open := true; open; {
			var e jetstream.KeyValueEntry
			select {
			case <-ctx.Done():
				open = false
				continue
			case e, open = <-w.Updates():
			}
			if e == nil { // all that was there has come, or it is over
				continue
			}
			since = e.Revision()
			if e.Operation() != jetstream.KeyValuePut {
				f(Change[T]{ID: e.Key(), Entry: Entry[T]{Revision: e.Revision()}, Deleted: true})
				continue
			}
			entry, err := b.decode(e)
			if err != nil {
				bad(fmt.Errorf("record %s of %s: %w", e.Key(), kv.Bucket(), err))
				continue
			}
			f(Change[T]{ID: e.Key(), Entry: entry})
		}
		if err := w.Stop(); err != nil && ctx.Err() == nil {
			bad(fmt.Errorf("follow the bucket %s: %w", kv.Bucket(), err))
		}
	}
}
