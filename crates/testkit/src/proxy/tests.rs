//! Each fault of the proxy, between real sockets.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

/// A server that answers each line with its own number and the line.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, lines) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.split();
                let mut read = BufReader::new(read).lines();
                while let Ok(Some(line)) = read.next_line().await {
                    let _ = seen.send(line.clone());
                    let _ = write.write_all(format!("{line}\n").as_bytes()).await;
                }
            });
        }
    });
    (address, lines)
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn of(proxy: &Proxy) -> Self {
        Self(BufReader::new(TcpStream::connect(proxy.address()).await.unwrap()))
    }

    async fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line; none where the connection ended.
    async fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(read) if read > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    async fn ask(&mut self, line: &str) -> Option<String> {
        self.say(line).await;
        self.hear().await
    }
}

/// That a thing does not happen is seen by what happens meanwhile on a line without the fault.
async fn meanwhile(server: SocketAddr) {
    let other = Proxy::start(server).await;
    let mut client = Client::of(&other).await;
    for _ in 0..20 {
        client.ask("meanwhile").await.unwrap();
    }
}

#[tokio::test]
async fn what_is_cut_ends_at_once_and_comes_back_when_mended() {
    let (server, _lines) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut client = Client::of(&proxy).await;
    assert_eq!(client.ask("one").await.as_deref(), Some("one"));
    proxy.cut();
    assert_eq!(client.hear().await, None);
    proxy.connections(0).await;
    let mut next = Client::of(&proxy).await;
    assert_eq!(next.hear().await, None, "nor does a new one go on");
    proxy.mend().await;
    assert_eq!(Client::of(&proxy).await.ask("two").await.as_deref(), Some("two"));
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn what_is_half_open_swallows_and_closes_nothing_until_it_is_mended() {
    let (server, mut lines) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut client = Client::of(&proxy).await;
    client.ask("one").await.unwrap();
    proxy.half_open();
    client.say("lost").await;
    let mut new = Client::of(&proxy).await;
    new.say("lost too").await;
    meanwhile(server).await;
    let mut octet = [0];
    let quiet = client.0.get_ref().try_read(&mut octet).unwrap_err();
    assert_eq!(quiet.kind(), std::io::ErrorKind::WouldBlock);
    proxy.mend().await;
    assert_eq!(client.hear().await, None, "a connection with a gap does not go on");
    assert_eq!(Client::of(&proxy).await.ask("two").await.as_deref(), Some("two"));
    drop(proxy);
    lines.close();
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line);
    }
    assert!(!all.contains(&"lost".to_owned()), "{all:?}");
}

#[tokio::test]
async fn what_is_delayed_arrives_later_and_in_order() {
    let (server, _lines) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut client = Client::of(&proxy).await;
    let delay = Duration::from_millis(40);
    proxy.delay(delay);
    let begun = Instant::now();
    client.say("one").await;
    client.say("two").await;
    assert_eq!(client.hear().await.as_deref(), Some("one"));
    assert!(begun.elapsed() >= 2 * delay, "both ways");
    assert_eq!(client.hear().await.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_paused_direction_waits_and_loses_nothing() {
    let (server, mut lines) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut client = Client::of(&proxy).await;
    client.ask("one").await.unwrap();
    lines.recv().await.unwrap();
    proxy.pause(Direction::ToClient);
    client.say("two").await;
    assert_eq!(lines.recv().await.as_deref(), Some("two"), "the other direction goes on");
    meanwhile(server).await;
    let mut octet = [0];
    assert!(client.0.get_ref().try_read(&mut octet).is_err());
    proxy.resume(Direction::ToClient);
    assert_eq!(client.hear().await.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_peer_that_never_reads_is_felt_by_who_writes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.pause(Direction::ToServer);
    let octets = vec![b'x'; 64 * 1024];
    let (mut sent, (elsewhere, _lines)) = (0, echo().await);
    let mut meanwhile = std::pin::pin!(meanwhile(elsewhere));
    loop {
        tokio::select! {
            biased;
            ready = client.writable() => {
                ready.unwrap();
                sent += client.try_write(&octets).unwrap_or(0);
                assert!(sent < 64 << 20, "buffers are bounded");
            }
            () = &mut meanwhile => break,
        }
    }
    let mut buffer = vec![0; octets.len()];
    assert!(server.try_read(&mut buffer).is_err(), "nothing came through");
    proxy.resume(Direction::ToServer);
    let mut received = 0;
    while received < sent {
        received += server.read(&mut buffer).await.unwrap();
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn held_connections_are_established_in_the_reverse_order() {
    let (server, mut lines) = echo().await;
    let proxy = Proxy::start(server).await;
    proxy.hold();
    let mut clients = Vec::new();
    for n in 0..3 {
        let mut client = Client::of(&proxy).await;
        client.say(&n.to_string()).await;
        proxy.held(n + 1).await;
        clients.push(client);
    }
    proxy.release_reversed().await;
    let listener_order = [lines.recv().await, lines.recv().await, lines.recv().await];
    assert_eq!(listener_order.map(Option::unwrap), ["2", "1", "0"]);
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.hear().await, Some(n.to_string()));
    }
}

#[tokio::test]
async fn new_connections_go_where_the_server_is_now() {
    let (first, mut at_first) = echo().await;
    let (second, mut at_second) = echo().await;
    let proxy = Proxy::start(first).await;
    let mut client = Client::of(&proxy).await;
    client.ask("one").await.unwrap();
    proxy.to(second);
    client.ask("still").await.unwrap();
    Client::of(&proxy).await.ask("two").await.unwrap();
    assert_eq!(at_first.recv().await.as_deref(), Some("one"));
    assert_eq!(at_first.recv().await.as_deref(), Some("still"));
    assert_eq!(at_second.recv().await.as_deref(), Some("two"));
}

#[tokio::test]
async fn it_ends_with_its_value() {
    let (server, _lines) = echo().await;
    let proxy = Proxy::start(server).await;
    let address = proxy.address();
    let mut client = Client::of(&proxy).await;
    client.ask("one").await.unwrap();
    drop(proxy);
    assert_eq!(client.hear().await, None);
    // The listener's task ends on its own; until then a connection is taken and ended.
    if let Ok(stream) = TcpStream::connect(address).await {
        assert_eq!(Client(BufReader::new(stream)).hear().await, None);
    }
}
