use mayfly_proto::v1 as pb;
use mayfly_proto::v1::watch_event::What;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::seen::tests::event;
use super::*;

const NOW: UnixMillis = UnixMillis(1_777_000_000_000);

fn follower(name: &str, kind: &str, behind: u64, silent_ms: u32, fresh: bool) -> pb::Follower {
    pb::Follower {
        id: "0".repeat(32),
        kind: kind.into(),
        name: name.into(),
        broker: "one".into(),
        bound_ms: 5_000,
        silent_ms,
        applied: 41 - behind,
        behind,
        fresh,
    }
}

fn busy() -> Seen {
    let mut seen = Seen::default();
    for second in 0..5_u64 {
        let standing = pb::WatchFollowers {
            followers: vec![
                follower("ledger-api", "acceptor", 3, 6_100, false),
                follower("payments-api", "acceptor", 0, 400, true),
                follower("one", "broker", 0, 20, true),
            ],
            number: 41,
            live_leases: 12_345,
            canaries: Some(pb::Canaries {
                measured: 60,
                online_p50_us: 900,
                online_p99_us: 2_100,
                feed_p50_us: 1_200,
                feed_p99_us: 4_900,
                accepted_after: 0,
            }),
            mints: second * second * 10,
            refusals: second * 2,
            checks: second * 900,
        };
        seen.take(event(NOW.0 - 5_000 + second * 1_000, What::Followers(standing)));
    }
    let decision = |kind: &str, reason: &str| {
        What::Decision(pb::WatchDecision {
            kind: kind.into(),
            reason: reason.into(),
            workload: "spiffe://acme.internal/ci/payments/deploy".into(),
            profile: "payments-deploy".into(),
            task: "gh-8123-1".into(),
            ..Default::default()
        })
    };
    seen.take(event(NOW.0 - 300, decision("mint", "")));
    seen.take(event(NOW.0 - 200, decision("check", "LEASE_REVOKED")));
    let revocation = pb::WatchRevocation {
        revocation: "rev_1".into(),
        subject: Some(pb::Subject { dimension: pb::Dimension::Owner.into(), value: "team:payments".into() }),
        author: "alice".into(),
        reason: "laptop \u{1b}[31mstolen".into(),
        number: 41,
        here: false,
        ..Default::default()
    };
    seen.take(event(NOW.0 - 100, What::Revocation(revocation)));
    seen
}

/// What a terminal of this size shows, line by line.
fn screen(width: u16, height: u16, head: &Head, seen: &Seen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, head, seen, NOW)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| row(y).trim_end().to_owned()).collect()
}

fn head(paused: bool) -> Head {
    Head { broker: "https://mayfly.acme.internal:8443".into(), paused }
}

#[test]
fn everything_fits_eighty_columns_and_twenty_four_lines() {
    let shown = screen(80, 24, &head(false), &busy());
    let text = shown.join("\n");
    for part in [
        "mayfly watch https://mayfly.acme.internal:8443  live leases 12345  feed 41",
        "mints         70",
        "checks       900",
        "refusals       2",
        "canaries  p99 2.1 ms online, 4.9 ms feed",
        "1  LEASE_REVOKED",
        "events",
        "mint       payments-deploy gh-8123-1",
        "check      LEASE_REVOKED",
        "  /ci/payments/deploy",
        "revoke     laptop",
        "owner team:payments",
        "followers: 2 of 3 fresh",
        "NOT FRESH",
        "3 behind",
        "6.1s of 5.0s",
        "q quit   p pause",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "nothing that a broker says reaches the terminal as it is");
    let newest = shown.iter().position(|l| l.contains("revoke ")).unwrap();
    assert!(newest < shown.iter().position(|l| l.contains("mint  ")).unwrap_or(usize::MAX));
}

#[test]
fn it_draws_at_any_size() {
    for (width, height) in [(1, 1), (20, 5), (79, 23), (80, 24), (200, 60)] {
        assert_eq!(screen(width, height, &head(true), &busy()).len(), usize::from(height));
        screen(width, height, &head(false), &Seen::default());
    }
}

#[test]
fn a_pause_a_loss_and_a_canary_that_lived_are_told() {
    let mut seen = busy();
    assert!(screen(120, 24, &head(true), &seen)[0].contains("PAUSED"));
    seen.lost("BROKER_UNREACHABLE".into());
    let lost = &screen(80, 24, &head(false), &seen)[0];
    assert!(lost.contains("NO CONNECTION: BROKER_UNREACH"), "{lost}");
    seen.canaries.as_mut().unwrap().accepted_after = 1;
    let text = screen(200, 24, &head(false), &seen).join("\n");
    assert!(text.contains("ACCEPTED AFTER REVOCATION: 1"), "{text}");
}
