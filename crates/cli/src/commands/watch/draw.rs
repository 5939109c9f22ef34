//! The panes. Everything fits 80 columns and 24 lines; what a broker says is cleaned before it is drawn.

use mayfly_client::failure::clean;
use mayfly_domain::UnixMillis;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table};

use super::super::barrier::seconds;
use super::seen::{Rate, Seen, Tone};
use crate::output::Moment;

/// What the head says.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) broker: String,
    pub(super) paused: bool,
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, head: &Head, seen: &Seen, now: UnixMillis) {
    // A third of what is left is for followers, the rest for events.
    let [title, top, events, followers, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [rates, reasons] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(top);
    frame.render_widget(title_line(head, seen), title);
    draw_rates(frame, rates, seen);
    draw_reasons(frame, reasons, seen);
    draw_events(frame, events, seen, head.paused);
    draw_followers(frame, followers, seen);
    frame.render_widget(foot_line(seen, now), foot);
}

fn pane(title: impl Into<Line<'static>>) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title.into().bold())
}

fn title_line(head: &Head, seen: &Seen) -> Line<'static> {
    let mut spans = vec![Span::from("mayfly watch ").bold(), Span::from(clean(&head.broker, 60))];
    spans.push(match &seen.lost {
        // What is shown is from before.
        Some(why) => Span::from(format!("  NO CONNECTION: {}", clean(why, 80))).bold().red(),
        None => Span::from(format!("  live leases {}  feed {}", seen.live_leases, seen.number)),
    });
    if head.paused {
        spans.push(Span::from("  PAUSED").bold().yellow());
    }
    Line::from(spans)
}

fn draw_rates(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let block = pane("a second");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = Layout::vertical([Constraint::Length(1); 3]).split(inner);
    let now = seen.now();
    let series = |of: fn(&Rate) -> u64| (of(&now), seen.rates.iter().map(of).collect::<Vec<_>>());
    let named = [
        ("mints", series(|rate| rate.mints), Style::new().green()),
        ("checks", series(|rate| rate.checks), Style::new().cyan()),
        ("refusals", series(|rate| rate.refusals), Style::new().red()),
    ];
    for ((name, (value, values), style), row) in named.into_iter().zip(rows.iter()) {
        let [label, line] = Layout::horizontal([Constraint::Length(17), Constraint::Fill(1)]).areas(*row);
        frame.render_widget(Line::from(format!("{name:8} {value:>7}")), label);
        let width = usize::from(line.width);
        let latest: Vec<u64> = values.iter().skip(values.len().saturating_sub(width)).copied().collect();
        frame.render_widget(Sparkline::default().data(latest).style(style), line);
    }
    let canaries = canaries(seen);
    if let Some(row) = inner.rows().nth(4) {
        frame.render_widget(canaries, row);
    }
}

/// From acknowledged revocation to refusal, as the broker measures it with leases of its own.
fn canaries(seen: &Seen) -> Line<'static> {
    let Some(c) = seen.canaries.filter(|c| c.measured > 0) else {
        return Line::from("canaries  none measured yet").dim();
    };
    let ms = |us: u32| format!("{}.{}", us / 1_000, us / 100 % 10);
    let text = format!(
        "canaries  p99 {} ms online, {} ms feed ({})",
        ms(c.online_p99_us),
        ms(c.feed_p99_us),
        c.measured
    );
    match c.accepted_after {
        0 => Line::from(text),
        n => Line::from(format!("{text}  ACCEPTED AFTER REVOCATION: {n}")).bold().red(),
    }
}

fn draw_reasons(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let block = pane("refusals by reason");
    let inner = block.inner(area);
    let lines: Vec<Line<'_>> = seen
        .top_reasons()
        .into_iter()
        .take(usize::from(inner.height))
        .map(|(reason, n)| {
            Line::from(vec![Span::from(format!("{n:>8}  ")), Span::from(clean(reason, 40)).red()])
        })
        .collect();
    let text =
        if lines.is_empty() { Paragraph::new(Line::from("none").dim()) } else { Paragraph::new(lines) };
    frame.render_widget(text.block(block), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, seen: &Seen, paused: bool) {
    let missed = if seen.missed > 0 { format!(" ({} missed)", seen.missed) } else { String::new() };
    let paused = if paused { " as they were" } else { "" };
    let block = pane(format!("events{paused}{missed}"));
    let rows = seen.events.iter().take(usize::from(area.height)).map(|line| {
        let style = match line.tone {
            Tone::Good => Style::new().green(),
            Tone::Refused => Style::new().red(),
            Tone::Ended => Style::new().yellow(),
            Tone::Note => Style::new().add_modifier(Modifier::DIM),
        };
        Row::new([
            Span::from(time(line.at_ms)).dim(),
            Span::styled(clean(&line.kind, 16), style),
            Span::styled(clean(&line.what, 200), style),
            Span::from(clean(&line.whom, 200)),
        ])
    });
    let widths = [Constraint::Length(8), Constraint::Length(10), Constraint::Fill(5), Constraint::Fill(6)];
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

/// The time of day in UTC.
fn time(at_ms: u64) -> String {
    Moment(at_ms).text().split('T').nth(1).and_then(|time| time.get(..8)).unwrap_or_default().to_owned()
}

fn draw_followers(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let fresh = seen.followers.iter().filter(|f| f.fresh).count();
    let block = pane(format!("followers: {fresh} of {} fresh", seen.followers.len()));
    let rows = seen.followers.iter().take(usize::from(area.height)).map(|f| {
        let (state, style) =
            if f.fresh { ("fresh", Style::new().green()) } else { ("NOT FRESH", Style::new().red()) };
        Row::new([
            Span::from(clean(f.shown(), 64)),
            Span::from(clean(&f.kind, 10)),
            Span::from(clean(f.through(), 64)),
            Span::styled(state, style),
            Span::from(format!("{} behind", f.behind)),
            Span::from(f.silence()),
        ])
    });
    let widths = [
        Constraint::Fill(4),
        Constraint::Length(8),
        Constraint::Fill(3),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(14),
    ];
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

fn foot_line(seen: &Seen, now: UnixMillis) -> Line<'static> {
    let age = seen.newest_ms().map(|at| now.0.saturating_sub(at)).filter(|ms| *ms >= 3_000);
    let age =
        age.map(|ms| format!("   nothing heard for {}", seconds(u32::try_from(ms).unwrap_or(u32::MAX))));
    Line::from(vec![
        Span::from("q").bold(),
        Span::from(" quit   "),
        Span::from("p").bold(),
        Span::from(" pause"),
        Span::from(age.unwrap_or_default()).yellow(),
    ])
}

#[cfg(test)]
mod tests;
