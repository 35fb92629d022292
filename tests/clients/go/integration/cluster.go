// Package integration replaces etcd's package of that name. Its clusters are processes, started by
// the command in CLIENTS_MEMBER; the original starts members inside the test's process. Names and
// signatures are those that etcd's tests use.
package integration

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/etcdserver/api/v3lock/v3lockpb"
	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"go.etcd.io/etcd/pkg/transport"
	"go.etcd.io/etcd/pkg/types"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// RequestWaitTimeout is how long tests wait for a request or the loss of a leader.
	RequestWaitTimeout = 4 * time.Second
	// ThroughProxy is false: the tests do not run through etcd's gRPC proxy.
	ThroughProxy = false

	// The original has 10 ms, too little for processes that share two cores.
	tickDuration   = 20 * time.Millisecond
	requestTimeout = 20 * time.Second
	readyWithin    = 40 * time.Second
	clusterName    = "etcd"
)

var (
	electionTicks = 10
	lg            = zap.NewNop()

	testTLSInfo          = fixture("fixtures", "server")
	testTLSInfoIP        = fixture("fixtures", "server-ip")
	testTLSInfoExpired   = fixture("fixtures-expired", "server")
	testTLSInfoExpiredIP = fixture("fixtures-expired", "server-ip")
	defaultTokenJWT      = "jwt,pub-key=./fixtures/server.crt,priv-key=./fixtures/server.key.insecure,sign-method=RS256,ttl=1s"
)

func fixture(dir, name string) transport.TLSInfo {
	return transport.TLSInfo{
		KeyFile: "./" + dir + "/" + name + ".key.insecure", CertFile: "./" + dir + "/" + name + ".crt",
		TrustedCAFile: "./" + dir + "/ca.crt", ClientCertAuth: true,
	}
}

// ClusterConfig has the fields of the original; zero means the server's default.
type ClusterConfig struct {
	Size      int
	PeerTLS   *transport.TLSInfo
	ClientTLS *transport.TLSInfo

	DiscoveryURL string

	AuthToken    string
	AuthTokenTTL uint

	UseGRPC bool

	QuotaBackendBytes int64

	MaxTxnOps              uint
	MaxRequestBytes        uint
	SnapshotCount          uint64
	SnapshotCatchUpEntries uint64

	GRPCKeepAliveMinTime  time.Duration
	GRPCKeepAliveInterval time.Duration
	GRPCKeepAliveTimeout  time.Duration

	SkipCreatingClient bool

	ClientMaxCallSendMsgSize int
	ClientMaxCallRecvMsgSize int

	UseIP bool

	EnableLeaseCheckpoint   bool
	LeaseCheckpointInterval time.Duration
	LeaseCheckpointPersist  bool

	WatchProgressNotifyInterval time.Duration
	CorruptCheckTime            time.Duration
}

type cluster struct {
	cfg     *ClusterConfig
	Members []*member
}

// ClusterV3 is a cluster with a client for each member.
type ClusterV3 struct {
	*cluster

	mu      sync.Mutex
	clients []*clientv3.Client
}

// NewClusterV3 starts a cluster and waits until each member serves.
func NewClusterV3(t testing.TB, cfg *ClusterConfig) *ClusterV3 {
	c := &ClusterV3{cluster: NewClusterByConfig(t, cfg)}
	c.Launch(t)
	for _, m := range c.Members {
		if cfg.SkipCreatingClient {
			continue
		}
		client, err := NewClientV3(m)
		if err != nil {
			t.Fatalf("cannot create client: %v", err)
		}
		c.clients = append(c.clients, client)
	}
	return c
}

// NewClusterByConfig makes the members and starts nothing.
func NewClusterByConfig(t testing.TB, cfg *ClusterConfig) *cluster {
	c := &cluster{cfg: cfg}
	for i := 0; i < cfg.Size; i++ {
		c.Members = append(c.Members, c.mustNewMember(t))
	}
	return c
}

// Launch starts the members and waits until each has published itself.
func (c *cluster) Launch(t testing.TB) {
	for _, m := range c.Members {
		m.InitialPeerURLsMap = c.urls()
		if err := m.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range c.Members {
		complaint := ""
		select {
		case <-m.ready:
			continue
		case <-m.exited:
			complaint = "has ended"
		case <-time.After(readyWithin):
			complaint = "is not ready"
		}
		complaint = fmt.Sprintf("%s %s: %s", m.Name, complaint, m.logTail())
		c.Terminate(t)
		t.Fatal(complaint)
	}
}

// Terminate ends the members.
func (c *cluster) Terminate(t testing.TB) {
	for _, m := range c.Members {
		m.Terminate(t)
	}
}

func (c *cluster) urls() types.URLsMap {
	urls := types.URLsMap{}
	for _, m := range c.Members {
		urls[m.Name] = m.PeerURLs
	}
	return urls
}

// NewClientV3 makes a client that reaches the member through its bridge.
func NewClientV3(m *member) (*clientv3.Client, error) {
	cfg := clientv3.Config{
		Endpoints:          []string{m.GRPCAddr()},
		DialTimeout:        5 * time.Second,
		DialOptions:        append([]grpc.DialOption{grpc.WithBlock()}, m.DialOptions...),
		MaxCallSendMsgSize: m.cfg.ClientMaxCallSendMsgSize,
		MaxCallRecvMsgSize: m.cfg.ClientMaxCallRecvMsgSize,
	}
	if m.ClientTLSInfo != nil {
		tls, err := m.ClientTLSInfo.ClientConfig()
		if err != nil {
			return nil, err
		}
		cfg.TLS = tls
	}
	return newClientV3(cfg)
}

func newClientV3(cfg clientv3.Config) (*clientv3.Client, error) { return clientv3.New(cfg) }

// Client returns the client of a member.
func (c *ClusterV3) Client(i int) *clientv3.Client { return c.clients[i] }

// RandClient returns the client of any member.
func (c *ClusterV3) RandClient() *clientv3.Client { return c.clients[rand.Intn(len(c.clients))] }

// TakeClient makes the caller responsible for closing the client.
func (c *ClusterV3) TakeClient(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients[i] = nil
}

// Terminate ends clients and members.
func (c *ClusterV3) Terminate(t testing.TB) {
	c.mu.Lock()
	for _, client := range c.clients {
		if client == nil {
			continue
		}
		if err := client.Close(); err != nil && t != nil {
			t.Error(err)
		}
	}
	c.mu.Unlock()
	c.cluster.Terminate(t)
}

// WaitLeader waits until all running members report the same leader, and returns its index.
func (c *cluster) WaitLeader(t testing.TB) int { return c.waitLeader(t, c.Members) }

func (c *cluster) waitLeader(t testing.TB, members []*member) int {
	for {
		leads := map[uint64]bool{}
		for _, m := range members {
			if m.process != nil {
				leads[m.s.Lead()] = true
			}
		}
		for i, m := range members {
			if len(leads) == 1 && leads[uint64(m.ID())] && m.process != nil {
				return i
			}
		}
		time.Sleep(tickDuration)
	}
}

// WaitNoLeader waits until no running member knows a leader.
func (c *cluster) WaitNoLeader() { c.waitNoLeader(c.Members) }

func (c *cluster) waitNoLeader(members []*member) {
	for i := 0; i < len(members); {
		if members[i].process != nil && members[i].s.Lead() != 0 {
			time.Sleep(tickDuration)
			i = 0
			continue
		}
		i++
	}
}

func checkLeaderTransition(m *member, old uint64) uint64 {
	for {
		if lead := m.s.Lead(); lead != 0 && lead != old {
			return lead
		}
		time.Sleep(tickDuration)
	}
}

// WaitClientV3 waits until a client can read.
func WaitClientV3(t testing.TB, kv clientv3.KV) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	for {
		_, err := kv.Get(ctx, "/")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("timed out waiting for client: %v", err)
		}
		time.Sleep(tickDuration)
	}
}

// GetLearnerMembers lists the learners.
func (c *ClusterV3) GetLearnerMembers() ([]*pb.Member, error) {
	list, err := c.Client(0).MemberList(context.Background())
	if err != nil {
		return nil, fmt.Errorf("failed to list member %v", err)
	}
	var learners []*pb.Member
	for _, m := range list.Members {
		if m.IsLearner {
			learners = append(learners, m)
		}
	}
	return learners, nil
}

// AddAndLaunchLearnerMember adds a learner and starts it.
func (c *ClusterV3) AddAndLaunchLearnerMember(t testing.TB) {
	m := c.mustNewMember(t)
	resp, err := c.Client(0).MemberAddAsLearner(context.Background(), m.PeerURLs.StringSlice())
	if err != nil {
		t.Fatalf("failed to add learner member %v", err)
	}
	c.join(m, resp.Member)
	if err := m.Launch(); err != nil {
		t.Fatal(err)
	}
	c.Members = append(c.Members, m)
	<-m.ready
}

// AddMember adds a voting member and starts it.
func (c *ClusterV3) AddMember(t testing.TB) {
	m := c.mustNewMember(t)
	resp, err := c.Client(0).MemberAdd(context.Background(), m.PeerURLs.StringSlice())
	if err != nil {
		t.Fatalf("failed to add member %v", err)
	}
	c.join(m, resp.Member)
	if err := m.Launch(); err != nil {
		t.Fatal(err)
	}
	c.Members = append(c.Members, m)
	<-m.ready
}

// RemoveMember removes a member from the cluster and terminates it.
func (c *ClusterV3) RemoveMember(t testing.TB, id uint64) {
	if _, err := c.Client(0).MemberRemove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	for i, m := range c.Members {
		if uint64(m.ID()) == id {
			m.Terminate(t)
			c.Members = append(c.Members[:i:i], c.Members[i+1:]...)
			return
		}
	}
}

// clusterMustProgress writes through the first of these members and waits until each has the write.
func clusterMustProgress(t *testing.T, members []*member) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	key := fmt.Sprintf("foo%d", rand.Int())
	put, err := members[0].direct.Put(ctx, key, "bar")
	for i := 0; err != nil && i < 3; i++ {
		put, err = members[0].direct.Put(ctx, key, "bar")
	}
	if err != nil {
		t.Fatalf("put on %s: %v", members[0].Name, err)
	}
	for _, m := range members {
		select {
		case got := <-m.direct.Watch(ctx, key, clientv3.WithRev(put.Header.Revision)):
			if len(got.Events) != 1 {
				t.Fatalf("watch on %s: %v", m.Name, got.Err())
			}
		case <-ctx.Done():
			t.Fatalf("watch on %s: %v", m.Name, ctx.Err())
		}
	}
}

// MustNewMember creates a member that has been added to the cluster; the caller starts it.
func (c *ClusterV3) MustNewMember(t testing.TB, resp *clientv3.MemberAddResponse) *member {
	m := c.mustNewMember(t)
	c.join(m, resp.Member)
	return m
}

func (c *ClusterV3) join(m *member, added *pb.Member) {
	m.isLearner, m.NewCluster = added.IsLearner, false
	m.PeerURLs = types.MustNewURLs(added.PeerURLs)
	m.InitialPeerURLsMap = c.urls()
	m.InitialPeerURLsMap[m.Name] = m.PeerURLs
	m.s.id = types.ID(added.ID)
}

type grpcAPI struct {
	Cluster     pb.ClusterClient
	KV          pb.KVClient
	Lease       pb.LeaseClient
	Watch       pb.WatchClient
	Maintenance pb.MaintenanceClient
	Auth        pb.AuthClient
	Lock        v3lockpb.LockClient
	Election    v3electionpb.ElectionClient
}

// toGRPC returns the services without the client's own retries.
func toGRPC(c *clientv3.Client) grpcAPI {
	conn := c.ActiveConnection()
	return grpcAPI{
		pb.NewClusterClient(conn), pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewWatchClient(conn),
		pb.NewMaintenanceClient(conn), pb.NewAuthClient(conn),
		v3lockpb.NewLockClient(conn), v3electionpb.NewElectionClient(conn),
	}
}
