//! Counts what clients send to Redis, by its own MONITOR: commands within scripts are not counted.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::Result;

/// How long nothing must come before all that was sent counts as seen.
const QUIET: Duration = Duration::from_millis(20);

/// A watch on a server.
#[derive(Debug)]
pub(crate) struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _ours: OwnedWriteHalf,
}

impl Monitor {
    pub(crate) async fn start(port: u16) -> Result<Self> {
        let (read, mut ours) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
        ours.write_all(b"MONITOR\r\n").await?;
        let mut lines = BufReader::new(read).lines();
        lines.next_line().await?;
        Ok(Self { lines, _ours: ours })
    }

    /// How often clients sent each command with its first argument, such as a script, since this was last asked.
    pub(crate) async fn seen(&mut self) -> Result<HashMap<String, u64>> {
        let mut all = HashMap::new();
        while let Ok(line) = timeout(QUIET, self.lines.next_line()).await {
            let Some(line) = line? else { break };
            // `+1700000000.123456 [0 127.0.0.1:5000] "EVALSHA" "3f2a…" …`; within a script `[0 lua]`.
            if let Some((from, command)) = line.split_once("] ")
                && !from.ends_with(" lua")
            {
                let name: Vec<_> = command.splitn(3, ' ').take(2).collect();
                *all.entry(name.join(" ")).or_insert(0) += 1;
            }
        }
        Ok(all)
    }
}
