//! A byte stream as server-sent events: whatever the cut, the same events; nothing is lost, nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_api::sse::{Decoder, EventTooLong, Frame};

const EVENT_BYTES_MAX: usize = 1 << 12;

type Event = (Option<Vec<u8>>, Option<Vec<u8>>);

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Event>, EventTooLong> {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    let mut events = Vec::new();
    let event =
        |frame: Frame| (frame.event.map(|event| event.to_vec()), frame.data.map(|data| data.to_vec()));
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            events.push(event(frame));
        }
    }
    events.extend(decoder.finish().map(event));
    events.retain(|event| *event != (None, None));
    Ok(events)
}

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = events(std::iter::once(stream));
    let cut = events(stream.chunks(usize::from(*size).max(1)));
    // An event over the limit may be seen before or after its end came.
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!(whole, cut);
    }
});
