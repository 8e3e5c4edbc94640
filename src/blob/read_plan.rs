//! The plan of a read: which bytes lie in the window, which are on their way there, what is fetched beyond them.

use std::ops::Range;
use std::time::Duration;

use super::reader::Inner;
use crate::blob::read_cache::{Chunk, ChunkSink, Held, Piece, Window};
use crate::blob::read_pattern::{CHUNK, MAX_AHEAD, Pattern, TAIL, is_in_tail};
use crate::core::runtime::spawn;
use crate::error::Result;
use crate::memory::IDLE;
use crate::service::body_sink::RangeBody;
use crate::service::client_core::Call;
use crate::service::ranged_get::fetch;

/// Reads of at least this go straight into the caller's memory; smaller ones through the window.
const DIRECT: u64 = 1 << 20;
/// What is kept behind a reader that reads on, for small steps back.
const KEPT_BEHIND: u64 = 2 * CHUNK;
/// What the window holds at most: read-ahead, what lies behind, the tail, and the chunks at both edges.
const MAX_WINDOW: u64 = MAX_AHEAD + KEPT_BEHIND + TAIL + 2 * CHUNK;
/// What a zip archive begins with, such as `torch::save` writes.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

impl Inner {
    /// Decides where each byte of a read comes from, and starts the requests of the window's own.
    pub(super) fn plan(&self, call: &Call, range: &Range<u64>, pattern: &mut Pattern) -> Result<Vec<Piece>> {
        let mut window = self.lock_window();
        pattern.observe(range, self.size, || window.begins_with(ZIP_MAGIC));
        if pattern.ahead() > 0 && !is_in_tail(range.start, self.size) {
            window.drop_before(range.start.saturating_sub(KEPT_BEHIND));
        }
        let mut pieces = window.plan(range.clone());
        let small_gap = |piece: &Piece| match piece {
            Piece::Missing(gap) if gap.end - gap.start < DIRECT => Some(gap.clone()),
            _ => None,
        };
        let small_gaps: Vec<_> = pieces.iter().filter_map(small_gap).collect();
        for gap in &small_gaps {
            self.begin_around(&mut window, call, gap, range, pattern)?;
        }
        if !small_gaps.is_empty() {
            pieces = window.plan(range.clone());
        }
        self.read_ahead(&mut window, call, pattern)?;
        window.shrink(MAX_WINDOW, &(range.start..range.end + pattern.ahead()));
        Ok(pieces)
    }

    /// Starts the request of a chunk that covers a small gap. When memory is short, what was read before makes
    /// way, and the chunk is smaller; without any the gap is fetched as it is.
    fn begin_around(
        &self,
        window: &mut Window,
        call: &Call,
        gap: &Range<u64>,
        wanted: &Range<u64>,
        pattern: &Pattern,
    ) -> Result<()> {
        let mut chunk = self.around(window, gap, pattern);
        while !self.begin(window, call, chunk.clone(), None, Duration::ZERO)? {
            if window.drop_oldest(wanted) > 0 {
                continue;
            }
            let half = (chunk.end - chunk.start) / 2;
            if half < gap.end - gap.start {
                break;
            }
            chunk = gap.start..(gap.start + half).min(chunk.end);
        }
        Ok(())
    }

    /// The chunk to fetch for a small gap: the whole tail, or as much as the pattern promises to use.
    fn around(&self, window: &Window, gap: &Range<u64>, pattern: &Pattern) -> Range<u64> {
        let size = self.size;
        let limit = window.next_gap(gap.start, size).end;
        if is_in_tail(gap.start, size) {
            return size.saturating_sub(TAIL).max(window.end_before(gap.start))..limit;
        }
        gap.start..(gap.start + pattern.window()).max(gap.end).min(limit)
    }

    /// Starts the requests for what lies beyond the reads so far. Only whole chunks, or the last bit of a gap, so that
    /// small reads do not make small requests.
    fn read_ahead(&self, window: &mut Window, call: &Call, pattern: &Pattern) -> Result<()> {
        if pattern.ahead() == 0 {
            return Ok(());
        }
        let mut at = pattern.next();
        let limit = at.saturating_add(pattern.ahead()).min(self.size);
        loop {
            let gap = window.next_gap(at, self.size);
            let end = (gap.start + CHUNK).min(gap.end);
            if gap.is_empty() || end > limit || !self.begin(window, call, gap.start..end, None, IDLE)? {
                return Ok(());
            }
            at = end;
        }
    }

    pub(super) fn keep_first(&self, call: &Call, range: Range<u64>, body: RangeBody) -> Result<()> {
        // Without memory for it the body is let go, and reads fetch what they need.
        self.begin(&mut self.lock_window(), call, range, Some(body), IDLE).map(drop)
    }

    /// Starts a chunk's request if there is memory for it, or can be had of those who have not used theirs for `idle`.
    fn begin(
        &self,
        window: &mut Window,
        call: &Call,
        range: Range<u64>,
        body: Option<RangeBody>,
        idle: Duration,
    ) -> Result<bool> {
        let Some(memory) = self.core.budget()?.reserve(range.end - range.start, idle) else { return Ok(false) };
        let (call, target, version) = (call.in_background(), self.target.clone(), self.version.clone());
        let chunk = Chunk::new(range.clone(), call.limits.clone(), self.pieces.clone(), memory);
        let mut sink = ChunkSink::new(chunk.clone());
        let range = self.in_blob(&range);
        let request = spawn(async move {
            let result = fetch(&call, &target, &version, range, body, &mut sink).await;
            sink.end(result);
        })?;
        window.insert(Held { chunk, request, last_used: 0 });
        Ok(true)
    }
}
