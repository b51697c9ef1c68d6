//! Bars and sparklines. Pure. Parts differ in shape as well as in colour.

use ratatui::{
    style::{Color, Style},
    text::Span,
};

use super::{Paint, faint};
use crate::explain::finding::PortState;

/// Eighths of a cell; what is not nothing is to be seen.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How often in each part of the last minute, the most as high as it goes.
pub(super) fn sparkline(cells: &[u64], paint: Paint) -> Vec<Span<'static>> {
    let most = cells.iter().copied().max().unwrap_or(0).max(1);
    let mut spans: Vec<Span<'static>> = Vec::new();
    for chunk in cells.chunk_by(|one, other| (*one == 0) == (*other == 0)) {
        let is_quiet = chunk.first().is_none_or(|count| *count == 0);
        let text: String = chunk.iter().map(|count| level(*count, most)).collect();
        let style = if is_quiet { faint() } else { paint.bad() };
        spans.push(Span::styled(text, style));
    }
    spans
}

fn level(count: u64, most: u64) -> char {
    if count == 0 {
        return '·';
    }
    // 1 to 7: the lowest means nothing happened to most eyes.
    let height = (u128::from(count) * 7).div_ceil(u128::from(most));
    let height = usize::try_from(height).unwrap_or(7);
    LEVELS[height.min(7)]
}

/// Shapes of parts, the largest part first.
const SHAPES: [char; 9] = ['█', '▓', '▒', '░', '▚', '▞', '▙', '▟', '▄'];
pub(super) const FREE: char = '·';

pub(super) fn shape(rank: usize) -> char {
    SHAPES.get(rank).copied().unwrap_or('▄')
}

pub(super) fn style(state: PortState, paint: Paint) -> Style {
    let colour = match state {
        PortState::TimeWait | PortState::Closing => Color::Magenta,
        PortState::Established | PortState::Listening => Color::Green,
        PortState::CloseWait => Color::Red,
        PortState::SynSent | PortState::SynRecv => Color::Cyan,
        PortState::BoundUnused | PortState::BoundElsewhere => Color::Blue,
    };
    paint.colour(colour)
}

/// How many cells each gets: by its share, but at least one, together `width`.
pub(super) fn shares(amounts: &[u64], width: usize) -> Vec<usize> {
    let all: u128 = amounts.iter().map(|amount| u128::from(*amount)).sum();
    let cells = width as u128;
    let mut shares: Vec<usize> = amounts
        .iter()
        .map(|amount| {
            let share = u128::from(*amount) * cells / all.max(1);
            let share = usize::try_from(share).unwrap_or(width);
            share.max(usize::from(*amount > 0))
        })
        .collect();
    // Too many by the small ones, or too few by rounding: the largest settles it.
    while shares.iter().sum::<usize>() > width {
        match shares.iter_mut().max() {
            Some(largest) if *largest > 0 => *largest -= 1,
            _ => break,
        }
    }
    let rest = width - shares.iter().sum::<usize>();
    if all > 0
        && let Some(largest) = (0..amounts.len()).rev().max_by_key(|index| amounts[*index])
    {
        shares[largest] += rest;
    }
    shares
}

/// How full a queue is: `len` of `most`.
pub(super) fn gauge(len: u64, most: u64, width: usize, paint: Paint) -> Vec<Span<'static>> {
    let is_full = len >= most;
    let taken = len.min(most);
    let shares = shares(&[taken, most - taken], width);
    let full = if is_full { paint.bad() } else { paint.good() };
    vec![
        Span::styled("█".repeat(shares[0]), full),
        Span::styled(FREE.to_string().repeat(shares[1]), faint()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!(shares(&[200, 0], 10), [10, 0]);
        assert_eq!(shares(&[9999, 1], 10), [9, 1]);
        assert_eq!(shares(&[1, 1, 1], 10), [4, 3, 3]);
        assert_eq!(shares(&[0, 0], 10), [0, 0]);
        assert_eq!(shares(&[5, 1, 1, 1], 2), [1, 1, 0, 0]);
        assert_eq!(shares(&[u64::MAX, u64::MAX], 8), [4, 4]);
        for width in 0..50 {
            let sum: usize = shares(&[28_000, 200, 31, 1, 0], width).iter().sum();
            assert_eq!(sum, width);
        }
    }

    #[test]
    fn sparklines_show_whatever_happened() {
        let paint = Paint { has_colour: false };
        let spans = sparkline(&[0, 0, 1, 50, 100, 0], paint);
        let text: String = spans.iter().map(|span| span.content.as_ref()).collect();
        assert_eq!(text, "··▂▅█·");
    }
}
