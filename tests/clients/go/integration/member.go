package integration

import (
	"context"
	"fmt"
	"io/ioutil"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/etcdserver"
	"go.etcd.io/etcd/etcdserver/api/membership"
	"go.etcd.io/etcd/etcdserver/api/v3rpc"
	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"go.etcd.io/etcd/pkg/transport"
	"go.etcd.io/etcd/pkg/types"
	"google.golang.org/grpc"
)

// member is a process. Clients reach it through a Unix socket, peers through a second port.
type member struct {
	// Names, directories and limits, which tests read, and change between starts.
	etcdserver.ServerConfig
	PeerTLSInfo   *transport.TLSInfo
	ClientTLSInfo *transport.TLSInfo
	DialOptions   []grpc.DialOption

	s       *server
	cfg     *ClusterConfig
	cluster *cluster
	// Flags that differ from the defaults.
	flags     []string
	isLearner bool

	socket     string
	clientPort int
	peerPort   int
	client     *bridge
	peer       *bridge
	direct     *clientv3.Client
	process    *exec.Cmd
	exited     chan struct{}
	ready      chan struct{}
	watching   sync.WaitGroup
}

// server has the methods that tests call on an etcd in their own process; each asks the member.
type server struct {
	m  *member
	id types.ID
}

// program is the command of a member, as in "glass serve".
func program() []string {
	words := strings.Fields(os.Getenv("CLIENTS_MEMBER"))
	if len(words) == 0 {
		panic("CLIENTS_MEMBER must name the command that starts a member")
	}
	return words
}

var nextPort = 20000 + rand.New(rand.NewSource(int64(os.Getpid()))).Intn(10000)
var portMu sync.Mutex

// freePort returns a port below the range of outgoing connections: a peer that dials a stopped
// member must not connect to itself.
func freePort() int {
	portMu.Lock()
	defer portMu.Unlock()
	for {
		nextPort = 20000 + (nextPort-20000+1)%12000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err == nil {
			l.Close()
			return nextPort
		}
	}
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) mustNewMember(t testing.TB) *member {
	m := &member{cfg: c.cfg, cluster: c, PeerTLSInfo: c.cfg.PeerTLS, ClientTLSInfo: c.cfg.ClientTLS}
	m.clientPort, m.peerPort = freePort(), freePort()
	m.Name = fmt.Sprintf("%05d%05d", m.clientPort, os.Getpid()%100000)
	host := "localhost"
	if c.cfg.UseIP {
		host = "127.0.0.1"
	}
	m.socket = host + ":" + m.Name
	dir, err := ioutil.TempDir("", "clients-go-")
	must(t, err)
	m.DataDir = dir
	scheme := func(info *transport.TLSInfo) string {
		if info != nil {
			return "https"
		}
		return "http"
	}
	port := freePort()
	m.PeerURLs, err = types.NewURLs([]string{fmt.Sprintf("%s://127.0.0.1:%d", scheme(m.PeerTLSInfo), port)})
	must(t, err)
	m.ClientURLs, err = types.NewURLs([]string{fmt.Sprintf("%s://127.0.0.1:%d", scheme(m.ClientTLSInfo), m.clientPort)})
	must(t, err)
	m.NewCluster = true
	m.ElectionTicks, m.TickMs = electionTicks, uint(tickDuration/time.Millisecond)
	m.QuotaBackendBytes = c.cfg.QuotaBackendBytes
	m.MaxRequestBytes = c.cfg.MaxRequestBytes
	m.CorruptCheckTime = c.cfg.CorruptCheckTime
	m.s = &server{m: m, id: membership.NewMember(m.Name, m.PeerURLs, clusterName, nil).ID}
	return m
}

// args returns the flags for the next start.
func (m *member) args() []string {
	state := "existing"
	if m.NewCluster {
		state = "new"
	}
	args := []string{
		"--name", m.Name, "--data-dir", m.DataDir,
		"--listen-client-urls", m.ClientURLs.String(), "--advertise-client-urls", m.ClientURLs.String(),
		"--listen-peer-urls", strings.Replace(m.PeerURLs.String(), m.PeerURLs[0].Port(), fmt.Sprint(m.peerPort), 1),
		"--initial-advertise-peer-urls", m.PeerURLs.String(),
		"--initial-cluster", m.InitialPeerURLsMap.String(), "--initial-cluster-state", state,
		"--initial-cluster-token", clusterName,
		"--heartbeat-interval", fmt.Sprint(m.TickMs), "--election-timeout", fmt.Sprint(int(m.TickMs) * m.ElectionTicks),
	}
	c := m.cfg
	set := func(name string, value interface{}, wanted bool) {
		if wanted {
			args = append(args, fmt.Sprintf("--%s=%v", name, value))
		}
	}
	set("quota-backend-bytes", m.QuotaBackendBytes, m.QuotaBackendBytes != 0)
	set("max-request-bytes", m.MaxRequestBytes, m.MaxRequestBytes != 0)
	set("max-txn-ops", c.MaxTxnOps, c.MaxTxnOps != 0)
	set("snapshot-count", c.SnapshotCount, c.SnapshotCount != 0)
	set("auth-token", c.AuthToken, c.AuthToken != "")
	set("auth-token-ttl", c.AuthTokenTTL, c.AuthTokenTTL != 0)
	set("grpc-keepalive-min-time", c.GRPCKeepAliveMinTime, c.GRPCKeepAliveMinTime != 0)
	set("grpc-keepalive-interval", c.GRPCKeepAliveInterval, c.GRPCKeepAliveInterval != 0)
	set("grpc-keepalive-timeout", c.GRPCKeepAliveTimeout, c.GRPCKeepAliveTimeout != 0)
	// Tests set it for servers in their own process.
	progress := v3rpc.GetProgressReportInterval()
	set("experimental-watch-progress-notify-interval", progress, progress < time.Minute)
	set("experimental-corrupt-check-time", m.CorruptCheckTime, m.CorruptCheckTime != 0)
	set("experimental-initial-corrupt-check", true, m.CorruptCheckTime != 0)
	set("experimental-enable-lease-checkpoint", true, c.EnableLeaseCheckpoint)
	set("experimental-enable-lease-checkpoint-persist", true, c.LeaseCheckpointPersist)
	tls := func(prefix string, info *transport.TLSInfo) {
		if info != nil {
			args = append(args, "--"+prefix+"cert-file="+info.CertFile, "--"+prefix+"key-file="+info.KeyFile,
				"--"+prefix+"trusted-ca-file="+info.TrustedCAFile, "--"+prefix+"client-cert-auth")
		}
	}
	tls("", m.ClientTLSInfo)
	tls("peer-", m.PeerTLSInfo)
	return args
}

// Launch starts the process and the bridges, and does not wait until it serves.
func (m *member) Launch() error {
	listener, err := transport.NewUnixListener(m.socket)
	if err != nil {
		return err
	}
	peers, err := net.Listen("tcp", m.PeerURLs[0].Host)
	if err != nil {
		return err
	}
	m.client = newBridge(listener, fmt.Sprintf("127.0.0.1:%d", m.clientPort), false)
	m.peer = newBridge(peers, fmt.Sprintf("127.0.0.1:%d", m.peerPort), true)

	log, err := os.OpenFile(m.DataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command := program()
	m.process = exec.Command(command[0], append(command[1:], m.args()...)...)
	m.process.Stdout, m.process.Stderr = log, log
	m.process.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=arm64")
	if err := m.process.Start(); err != nil {
		return err
	}
	m.exited, m.ready = make(chan struct{}), make(chan struct{})
	m.watching.Add(2)
	go func() {
		m.process.Wait()
		close(m.exited)
		m.watching.Done()
	}()
	m.direct, err = m.dial()
	go m.awaitReady(m.direct, m.ready, m.exited)
	return err
}

// dial returns a client that bypasses the bridge.
func (m *member) dial() (*clientv3.Client, error) {
	cfg := clientv3.Config{Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", m.clientPort)}}
	if m.ClientTLSInfo != nil {
		tls, err := m.ClientTLSInfo.ClientConfig()
		if err != nil {
			return nil, err
		}
		cfg.TLS = tls
	}
	return clientv3.New(cfg)
}

// awaitReady closes ready when the member has published itself, as etcd does.
func (m *member) awaitReady(direct *clientv3.Client, ready, exited chan struct{}) {
	defer m.watching.Done()
	for {
		select {
		case <-exited:
			return
		case <-time.After(tickDuration):
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		list, err := direct.MemberList(ctx)
		cancel()
		if err != nil {
			continue
		}
		for _, other := range list.Members {
			if other.ID == uint64(m.s.id) && other.Name != "" {
				close(ready)
				return
			}
		}
	}
}

// Close kills the process and waits for its end.
func (m *member) Close() {
	if m.client != nil {
		m.client.Close()
		m.peer.Close()
		m.client, m.peer = nil, nil
	}
	if m.process != nil {
		m.process.Process.Signal(syscall.SIGKILL)
		m.watching.Wait()
		m.process = nil
	}
	if m.direct != nil {
		m.direct.Close()
		m.direct = nil
	}
}

// Stop ends the process and keeps the data.
func (m *member) Stop(t testing.TB) { m.Close() }

// Terminate ends the process and deletes the data.
func (m *member) Terminate(t testing.TB) {
	m.Close()
	os.RemoveAll(m.DataDir)
	if t != nil && t.Failed() && os.Getenv("CLIENTS_LOGS") != "" {
		return
	}
	os.Remove(m.DataDir + ".log")
}

// Restart starts the process with its data, and waits until it accepts connections.
func (m *member) Restart(t testing.TB) error {
	if err := m.Launch(); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(tickDuration) {
		if conn, err := net.Dial("tcp", m.ClientURLs[0].Host); err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-m.exited:
			return fmt.Errorf("%s has ended: %s", m.Name, m.logTail())
		default:
		}
	}
	return fmt.Errorf("%s does not listen", m.Name)
}

func (m *member) logTail() string {
	log, _ := ioutil.ReadFile(m.DataDir + ".log")
	if len(log) > 2000 {
		log = log[len(log)-2000:]
	}
	return string(log)
}

// WaitStarted waits until the member serves, with or without a leader.
func (m *member) WaitStarted(t testing.TB) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := m.direct.Get(ctx, "/", clientv3.WithSerializable())
		cancel()
		if err == nil {
			return
		}
		select {
		case <-m.exited:
			t.Fatalf("%s has ended: %s", m.Name, m.logTail())
		case <-time.After(tickDuration):
		}
	}
}

// WaitOK waits until the member serves and knows a leader.
func (m *member) WaitOK(t testing.TB) {
	m.WaitStarted(t)
	for m.s.Lead() == 0 {
		time.Sleep(tickDuration)
	}
}

func (m *member) GRPCAddr() string {
	if m.ClientTLSInfo != nil {
		return "unixs://" + m.socket
	}
	return "unix://" + m.socket
}
func (m *member) ID() types.ID                   { return m.s.id }
func (m *member) StopNotify() <-chan struct{}    { return m.exited }
func (m *member) ReadyNotify() <-chan struct{}   { return m.ready }
func (m *member) DropConnections()               { m.client.Reset() }
func (m *member) PauseConnections()              { m.client.Pause() }
func (m *member) UnpauseConnections()            { m.client.Unpause() }
func (m *member) Blackhole()                     { m.client.Blackhole() }
func (m *member) Unblackhole()                   { m.client.Unblackhole() }
func (m *member) ElectionTimeout() time.Duration { return time.Duration(electionTicks) * tickDuration }

// InjectPartition cuts the connections between this member and others, in both directions.
func (m *member) InjectPartition(t testing.TB, others ...*member) {
	for _, other := range others {
		m.peer.Cut(uint64(other.ID()))
		other.peer.Cut(uint64(m.ID()))
	}
}

// RecoverPartition reverts InjectPartition.
func (m *member) RecoverPartition(t testing.TB, others ...*member) {
	for _, other := range others {
		m.peer.Mend(uint64(other.ID()))
		other.peer.Mend(uint64(m.ID()))
	}
}

// Pause cuts the member off from all others, Resume ends that.
func (m *member) Pause()  { m.InjectPartition(nil, m.others()...) }
func (m *member) Resume() { m.RecoverPartition(nil, m.others()...) }

func (m *member) others() (others []*member) {
	for _, other := range m.cluster.Members {
		if other != m && other.peer != nil {
			others = append(others, other)
		}
	}
	return others
}

// Metric reads a metric from /metrics.
func (m *member) Metric(name string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get(m.ClientURLs[0].String() + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := ioutil.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(body), "\n") {
		if strings.HasPrefix(line, name) {
			return strings.Split(line, " ")[1], nil
		}
	}
	return "", nil
}

// Lead returns the leader that the member knows, 0 if none or if it does not answer.
func (s *server) Lead() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.m.direct == nil {
		return 0
	}
	status, err := s.m.direct.Maintenance.Status(ctx, s.m.direct.Endpoints()[0])
	if err != nil {
		return 0
	}
	return status.Leader
}

func (s *server) ID() types.ID     { return s.id }
func (s *server) Leader() types.ID { return types.ID(s.Lead()) }

// TransferLeadership hands leadership over to any other member.
func (s *server) TransferLeadership() error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	for _, other := range s.m.others() {
		_, err := s.m.direct.MoveLeader(ctx, uint64(other.ID()))
		return err
	}
	return nil
}

// Alarm sends the request to the member as a client.
func (s *server) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return pb.NewMaintenanceClient(s.m.direct.ActiveConnection()).Alarm(ctx, r)
}
