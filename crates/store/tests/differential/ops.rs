//! The commands of a trace, and how often each comes.

use mayfly_domain::{AcceptorMode, CredentialKind, Dimension, UnixMillis};
use mayfly_testkit::words::Wish;
use proptest::prelude::*;

/// One command of a trace. A lease is named by its place among those that were minted so far, counted round.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// With a fresh nonce, or one that was spent; as the child of a lease, or not.
    Mint {
        wish: Wish,
        replays: Option<usize>,
        parent: Option<usize>,
    },
    /// A child of a lease, its child, and so on.
    Descend {
        lease: usize,
        wish: Wish,
        generations: usize,
    },
    Confirm(usize),
    /// By its holder, or as somebody else's wish has it.
    Renew {
        lease: usize,
        ttl_s: u32,
        as_other: Option<Wish>,
        replays: Option<usize>,
        next: Option<u8>,
        /// The lease whose body was read: seldom another.
        body_of: Option<usize>,
    },
    Check {
        lease: usize,
        observation_of: Option<usize>,
    },
    Release {
        lease: usize,
        as_other: Option<Wish>,
    },
    Start(Wish),
    Complete {
        lease: usize,
        as_other: Option<Wish>,
        operator: bool,
    },
    RevokeLease(usize),
    Revoke {
        dimension: Dimension,
        n: u8,
        block: Option<Option<u64>>,
    },
    Block {
        dimension: Dimension,
        n: u8,
        block: Option<Option<u64>>,
    },
    /// Makes a join token with this number for the wish's workload and owners.
    PutJoin(Wish, u8),
    WithdrawJoin(u8),
    Sweep,
    Reap,
    Undone(usize),
    List(Option<(Dimension, u8)>),
    Knows(Dimension, u8),
    Counts,
    /// Replaces the keys of this version by the next.
    Keys(u64),
    /// Somebody begins to follow, by parts of a snapshot of this size.
    Follow(u32),
    /// Who follows applies what there is.
    CatchUp,
    Ping {
        follower: u8,
        applied: u64,
        epoch_of_another: bool,
    },
    Behind(u64),
    Advance(u64),
}

fn dimension() -> impl Strategy<Value = Dimension> {
    prop::sample::select(vec![
        Dimension::Workload,
        Dimension::Owner,
        Dimension::Task,
        Dimension::Profile,
        Dimension::Integration,
        Dimension::Everything,
    ])
}

pub(crate) fn small() -> std::ops::RangeInclusive<u8> {
    1..=3
}

fn block() -> impl Strategy<Value = Option<Option<u64>>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(None)),
        2 => prop::sample::select(vec![Some(Some(1_000)), Some(Some(60_000))]),
    ]
}

prop_compose! {
    fn wish()(
        workload in prop_oneof![4 => Just(1_u8), 1 => small()],
        owners in prop_oneof![3 => Just([1].into()), 2 => prop::collection::btree_set(small(), 1..=2)],
        task in prop_oneof![1 => Just(None), 3 => Just(Some(1_u8)), 2 => small().prop_map(Some)],
        profile in 1_u8..=2,
        key in prop_oneof![4 => Just(1_u8), 1 => small()],
        token in prop_oneof![1 => Just(None), 9 => (1_u32..=4).prop_map(Some)],
        join in prop::option::weighted(0.15, small()),
        alias in prop::option::weighted(0.2, 1_u8..=2),
        supersede in prop::bool::weighted(0.3),
        kind in prop::sample::select(vec![
            CredentialKind::Token,
            CredentialKind::Account,
            CredentialKind::Account,
            CredentialKind::X509,
        ]),
        acceptors in prop::sample::select(AcceptorMode::ALL.to_vec()),
        ttl_s in prop::sample::select(vec![1, 30, 300, 300, 4_000]),
        lineage_s in prop::sample::select(vec![60, 3_600, 86_400]),
        window_s in prop::sample::select(vec![60, 1_800, 1_800]),
        (live_max, per_min, burst) in prop_oneof![
            5 => Just((100, 1_000, 100)),
            1 => Just((2, 1_000, 100)),
            1 => prop::sample::select(vec![(100, 2, 1), (100, 60, 2), (100, 7, 3)]),
        ],
    ) -> Wish {
        let owners = owners.into_iter().collect();
        // Number and age are filled in by the run: every token is as old as the world.
        let (lease, issued_at) = (0, UnixMillis(0));
        Wish {
            lease, workload, owners, task, profile, key, token, join, alias, issued_at, supersede, kind, acceptors, ttl_s,
            lineage_s, window_s, live_max, per_min, burst, parent: None,
        }
    }
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let lease = || 0_usize..8;
    let seldom = || prop::option::weighted(0.1, 0_usize..8);
    let other = || prop::option::weighted(0.15, wish());
    let next_key = || prop::option::weighted(0.3, small());
    prop_oneof![
        10 => (wish(), seldom(), prop::option::weighted(0.3, lease()))
            .prop_map(|(wish, replays, parent)| Op::Mint { wish, replays, parent }),
        1 => (lease(), wish(), 1_usize..10)
            .prop_map(|(lease, wish, generations)| Op::Descend { lease, wish, generations }),
        4 => lease().prop_map(Op::Confirm),
        7 => (lease(), prop::sample::select(vec![1, 60, 300, 4_000]), other(), seldom(), next_key(), seldom())
            .prop_map(|(lease, ttl_s, as_other, replays, next, body_of)| {
                Op::Renew { lease, ttl_s, as_other, replays, next, body_of }
            }),
        8 => (lease(), prop::option::weighted(0.2, lease()))
            .prop_map(|(lease, observation_of)| Op::Check { lease, observation_of }),
        1 => (lease(), other()).prop_map(|(lease, as_other)| Op::Release { lease, as_other }),
        2 => wish().prop_map(Op::Start),
        1 => (lease(), other(), prop::bool::weighted(0.3))
            .prop_map(|(lease, as_other, operator)| Op::Complete { lease, as_other, operator }),
        2 => lease().prop_map(Op::RevokeLease),
        2 => (dimension(), small(), block())
            .prop_map(|(dimension, n, block)| Op::Revoke { dimension, n, block }),
        2 => (dimension(), small(), block())
            .prop_map(|(dimension, n, block)| Op::Block { dimension, n, block }),
        3 => (wish(), small()).prop_map(|(wish, n)| Op::PutJoin(wish, n)),
        1 => small().prop_map(Op::WithdrawJoin),
        2 => Just(Op::Sweep),
        2 => Just(Op::Reap),
        1 => lease().prop_map(Op::Undone),
        1 => prop::option::weighted(0.7, (dimension(), small())).prop_map(Op::List),
        1 => (dimension(), small()).prop_map(|(dimension, n)| Op::Knows(dimension, n)),
        1 => Just(Op::Counts),
        1 => (0_u64..4).prop_map(Op::Keys),
        1 => (1_u32..7).prop_map(Op::Follow),
        1 => Just(Op::CatchUp),
        2 => (small(), 0_u64..30, prop::bool::weighted(0.1)).prop_map(|(follower, applied, epoch_of_another)| {
            Op::Ping { follower, applied, epoch_of_another }
        }),
        1 => (0_u64..30).prop_map(Op::Behind),
        6 => prop_oneof![
            4 => prop::sample::select(vec![1, 400, 1_000, 20_000]),
            3 => prop::sample::select(vec![30_000, 60_000, 300_000]),
            1 => prop::sample::select(vec![1_800_000, 3_600_000, 90_000_000]),
        ]
        .prop_map(Op::Advance),
    ]
}
