//! `mayfly watch`: what a broker decides and hears of, as it happens.
//!
//! On a terminal it draws panes; into a pipe or a file, and with `--output json`, it writes one JSON document a line. It
//! leaves the terminal as it found it, however it ends.

mod draw;
mod json;
mod screen;
mod seen;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures::StreamExt as _;
use mayfly_client::Failure;
use mayfly_domain::Reason;
use mayfly_proto::v1 as pb;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::output::Printer;
use crate::session::{Outcome, Session};

/// Between two pictures, and between two attempts to connect.
const PICTURE: Duration = Duration::from_millis(200);
const AGAIN: Duration = Duration::from_secs(1);
/// Events that wait to be shown; the broker counts what is lost beyond.
const WAITING: usize = 256;

/// Watch mints, refusals, revocations and followers live
///
/// Keys: q quits, p pauses. Into a pipe, or with --output json, it writes one JSON document a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly watch
  mayfly watch --output json | jq -r 'select(.decision.reason) | .decision.reason'")]
pub(crate) struct Watch {}

/// What the view hears.
#[derive(Debug)]
enum Heard {
    Event(Box<pb::WatchEvent>),
    Lost(Failure),
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Quit,
    Pause,
    Nothing,
}

fn asked(key: KeyEvent) -> Asked {
    match (key.kind, key.code) {
        (KeyEventKind::Release, _) => Asked::Nothing,
        (_, KeyCode::Char('q') | KeyCode::Esc) => Asked::Quit,
        (_, KeyCode::Char('c')) if key.modifiers.contains(KeyModifiers::CONTROL) => Asked::Quit,
        (_, KeyCode::Char('p' | ' ')) => Asked::Pause,
        _ => Asked::Nothing,
    }
}

impl Watch {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if session.printer.is_json() || !terminal {
            return lines(session).await;
        }
        view(session).await
    }
}

/// One JSON document a line, until the broker ends or nobody reads.
async fn lines(session: &Session) -> Outcome {
    let mut events = session.operator().await?.watch().await?;
    while let Some(event) = events.next().await? {
        if !Printer::line(&json::line(&event))? {
            return Ok(0);
        }
    }
    Err(Failure::of(Reason::NotServing))
}

/// Follows the broker, again and again where the connection is lost.
async fn follow(session: &Session, heard: mpsc::Sender<Heard>) {
    loop {
        let Err(why) = follow_once(session, &heard).await else { return };
        if heard.send(Heard::Lost(why)).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Follows until the connection is lost; `Ok` where nobody looks any more.
async fn follow_once(session: &Session, heard: &mpsc::Sender<Heard>) -> Result<(), Failure> {
    let mut events = session.operator().await?.watch().await?;
    while let Some(event) = events.next().await? {
        if heard.send(Heard::Event(Box::new(event))).await.is_err() {
            return Ok(());
        }
    }
    Err(Failure::of(Reason::NotServing))
}

/// The panes.
async fn view(session: &Session) -> Outcome {
    // What can't work is told before the terminal is taken.
    session.operator().await?.watch().await?;
    let internal = |e: std::io::Error| Failure::of(Reason::Internal).fact("problem", e.to_string());
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .map(|kind| signal(kind).map_err(internal));
    let broker = session.target()?.url.to_string();
    let mut head = draw::Head { broker: broker.trim_end_matches('/').to_owned(), paused: false };
    let mut seen = seen::Seen::default();
    let (sender, mut heard) = mpsc::channel(WAITING);
    let following = follow(session, sender);
    tokio::pin!(following);
    let mut keys = EventStream::new();
    let mut pictures = tokio::time::interval(PICTURE);
    let mut screen = screen::Screen::take().map_err(internal)?;
    loop {
        tokio::select! {
            _ = pictures.tick() => screen.draw(&head, &seen, session.clock.now()).map_err(internal)?,
            () = &mut following => return Ok(0),
            heard = heard.recv() => match heard {
                Some(_) if head.paused => {}
                Some(Heard::Event(event)) => seen.take(*event),
                Some(Heard::Lost(why)) => seen.lost(format!("{}: {}", why.code, why.message)),
                None => return Ok(0),
            },
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) => match asked(key) {
                    Asked::Quit => return Ok(0),
                    Asked::Pause => head.paused = !head.paused,
                    Asked::Nothing => {}
                },
                Some(Ok(_)) => {}
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(0),
            },
            () = any(&mut ends) => return Ok(0),
        }
    }
}

/// Done when one of the signals came.
async fn any(ends: &mut [Result<tokio::signal::unix::Signal, Failure>; 3]) {
    let [terminate, hangup, interrupt] = ends;
    let (Ok(terminate), Ok(hangup), Ok(interrupt)) = (terminate, hangup, interrupt) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_quit_and_pause() {
        let plain = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        assert_eq!(asked(plain('q')), Asked::Quit);
        assert_eq!(asked(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Asked::Quit);
        assert_eq!(asked(plain('c')), Asked::Nothing);
        assert_eq!(asked(plain('p')), Asked::Pause);
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(asked(released), Asked::Nothing);
    }
}
