package integration

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
)

// bridge forwards connections to an address, and injects faults into them.
//
// Clients reach a member through one bridge, so that a test can drop, hold or swallow their traffic
// while the member runs. Peers reach it through another, which learns from the header of a
// connection's first request which member has dialled, so that it can cut off that member alone.
type bridge struct {
	listener net.Listener
	upstream string
	// Whether the first request is read to find out which peer dials.
	peers bool

	mu        sync.Mutex
	wake      *sync.Cond
	paused    bool
	blackhole bool
	closed    bool
	cut       map[uint64]bool
	conns     map[*bridged]bool
	wg        sync.WaitGroup
}

// bridged is one connection: its two ends, and the peer that has dialled, 0 if unknown.
type bridged struct {
	in, out net.Conn
	from    uint64
}

func (c *bridged) close() {
	c.in.Close()
	c.out.Close()
}

func newBridge(listener net.Listener, upstream string, peers bool) *bridge {
	b := &bridge{
		listener: listener, upstream: upstream, peers: peers,
		cut: map[uint64]bool{}, conns: map[*bridged]bool{},
	}
	b.wake = sync.NewCond(&b.mu)
	b.wg.Add(1)
	go b.accept()
	return b
}

func (b *bridge) accept() {
	defer b.wg.Done()
	for {
		in, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		for b.paused && !b.closed {
			b.wake.Wait()
		}
		if b.closed {
			b.mu.Unlock()
			in.Close()
			return
		}
		out, err := net.Dial("tcp", b.upstream)
		if err != nil {
			b.mu.Unlock()
			in.Close()
			continue
		}
		conn := &bridged{in: in, out: out}
		b.conns[conn] = true
		b.wg.Add(1)
		b.mu.Unlock()
		go b.serve(conn)
	}
}

func (b *bridge) serve(conn *bridged) {
	defer b.wg.Done()
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		b.pass(conn, conn.out, conn.in, b.peers)
		both.Done()
	}()
	go func() {
		b.pass(conn, conn.in, conn.out, false)
		both.Done()
	}()
	both.Wait()
	b.mu.Lock()
	delete(b.conns, conn)
	b.mu.Unlock()
}

// pass copies one direction until it ends. While the bridge swallows traffic, it discards it.
func (b *bridge) pass(conn *bridged, to io.Writer, from io.Reader, first bool) {
	defer conn.close()
	buf := make([]byte, 32*1024)
	for {
		n, err := from.Read(buf)
		if n > 0 && first && !b.admit(conn, buf[:n]) {
			return
		}
		first = false
		b.mu.Lock()
		swallow := b.blackhole
		b.mu.Unlock()
		if n > 0 && !swallow {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// admit records which peer has dialled; false if that peer is cut off. On loopback, a head fits
// into one read.
func (b *bridge) admit(conn *bridged, head []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	const name = "\r\nx-server-from: "
	if at := bytes.Index(bytes.ToLower(head), []byte(name)); at >= 0 {
		id := head[at+len(name):]
		if end := bytes.IndexByte(id, '\r'); end >= 0 {
			conn.from, _ = strconv.ParseUint(string(id[:end]), 16, 64)
		}
	}
	return !b.cut[conn.from]
}

// Reset closes all connections; new ones are accepted.
func (b *bridge) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for conn := range b.conns {
		conn.close()
	}
}

func (b *bridge) change(with func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	with()
	b.wake.Broadcast()
}

// Pause holds new connections.
func (b *bridge) Pause() { b.change(func() { b.paused = true }) }

// Unpause ends Pause.
func (b *bridge) Unpause() { b.change(func() { b.paused = false }) }

// Blackhole swallows all traffic.
func (b *bridge) Blackhole() { b.change(func() { b.blackhole = true }) }

// Unblackhole ends Blackhole; connections that have lost bytes are closed.
func (b *bridge) Unblackhole() {
	b.change(func() { b.blackhole = false })
	b.Reset()
}

// Cut closes the connections that this peer has dialled, and refuses new ones.
func (b *bridge) Cut(peer uint64) {
	b.change(func() {
		b.cut[peer] = true
		for conn := range b.conns {
			if conn.from == peer {
				conn.close()
			}
		}
	})
}

// Mend reverts Cut.
func (b *bridge) Mend(peer uint64) { b.change(func() { delete(b.cut, peer) }) }

// Close ends all connections and waits for their goroutines.
func (b *bridge) Close() {
	b.listener.Close()
	b.change(func() { b.closed = true })
	b.Reset()
	b.wg.Wait()
}
