//! The Lua scripts, each with the parts that it shares with others, known to Redis by their hash.

use std::sync::LazyLock;

use mayfly_domain::defaults;

/// A script as Redis knows it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) source: String,
    pub(super) hash: String,
}

impl Script {
    fn new(name: &'static str, parts: &[&str]) -> Self {
        let mut source = format!(
            "local SKEW_MS, MINT_DEADLINE_MS, UNDO_GRACE_MS, SUPERSEDE_MAX, FEED_KEPT = {}, {}, {}, {}, {}\n\
             local CLOCK_BACK_MS, KEPT_LONGER_MS = {}, {}\n",
            defaults::SKEW_MS,
            defaults::MINT_DEADLINE_MS,
            defaults::UNDO_GRACE_MS,
            defaults::SUPERSEDE_MAX,
            mayfly_lease::feed::FEED_KEPT,
            defaults::CLOCK_BACK_MS,
            defaults::KEPT_LONGER_MS,
        );
        for part in parts {
            source.push_str(part);
        }
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { name, source, hash }
    }
}

macro_rules! scripts {
    ($($name:ident: $($part:literal)*;)*) => {
        /// Every script.
        #[derive(Debug)]
        pub(super) struct Scripts { $(pub(super) $name: Script,)* }

        /// Every script, put together once.
        pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: Script::new(stringify!($name), &[
                include_str!("scripts/core.lua"),
                include_str!("scripts/begin.lua"),
                $(include_str!(concat!("scripts/", $part, ".lua")),)*
                include_str!(concat!("scripts/", stringify!($name), ".lua")),
            ]),)*
        });

        impl Scripts {
            /// All of them, to be loaded when a connection opens.
            pub(super) fn all(&self) -> impl Iterator<Item = &Script> {
                [$(&self.$name),*].into_iter()
            }
        }
    };
}

scripts! {
    mint: "evidence" "join" "revoke";
    check: "lease";
    confirm: "lease";
    renew: "evidence" "lease";
    end: "lease";
    read: ;
    forgot: ;
    list: "page" "leases";
    start_task: "evidence" "join";
    put_join: ;
    joins: ;
    withdraw_join: ;
    revoke_lease: "revoke";
    revoke_subject: "revoke";
    revoke_task: "evidence" "revoke";
    set_block: ;
    blocks: ;
    claim_job: ;
    save_job: ;
    sweep: "lease" "page" "leases";
    due_undos: "lease";
    undone: "lease";
    knows: ;
    counts: ;
    put_keys: ;
    heartbeat: ;
    brokers: ;
    begin_generation: ;
    feed_page: "page";
    feed_read: ;
    ping: ;
    followers_behind: "forget";
    forget_follower: "forget";
    add_usage: ;
    usage: ;
}
