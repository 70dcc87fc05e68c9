//! The few Protocol Buffers messages of OTLP logs, written and read by hand: field numbers and types are from
//! <https://github.com/open-telemetry/opentelemetry-proto> (`logs/v1/logs.proto`, `common/v1/common.proto`,
//! `collector/logs/v1/logs_service.proto`) and `google/rpc/{status,error_details}.proto`. Nothing here knows an audit event.

use std::time::Duration;

use serde_json::Value;

/// Wire type of integers, enums and booleans.
const VARINT: u8 = 0;
/// Wire type of `fixed64` and `double`.
const FIXED64: u8 = 1;
/// Wire type of strings, bytes and messages.
const LENGTH: u8 = 2;
/// Wire type of `fixed32` and `float`.
const FIXED32: u8 = 5;
/// Longest varint.
const VARINT_BYTES_MAX: usize = 10;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

fn key(field: u8, wire: u8, out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | u64::from(wire), out);
}

/// An integer or enum field.
pub(super) fn integer(field: u8, value: u64, out: &mut Vec<u8>) {
    key(field, VARINT, out);
    varint(value, out);
}

/// A `fixed64` field.
pub(super) fn fixed64(field: u8, value: u64, out: &mut Vec<u8>) {
    key(field, FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A string or bytes field.
pub(super) fn bytes(field: u8, value: &[u8], out: &mut Vec<u8>) {
    key(field, LENGTH, out);
    varint(u64::try_from(value.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(value);
}

/// A message field, with what `write` appends as its content.
pub(super) fn message(field: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    key(field, LENGTH, out);
    let start = out.len();
    write(out);
    let mut length = Vec::with_capacity(VARINT_BYTES_MAX);
    varint(u64::try_from(out.len() - start).unwrap_or(u64::MAX), &mut length);
    // The content moves up by some bytes; it is at most a log record, or was joined just before.
    drop(out.splice(start..start, length));
}

/// A `KeyValue` field; a JSON null becomes no field at all.
pub(super) fn attribute(field: u8, name: &str, value: &Value, out: &mut Vec<u8>) {
    if value.is_null() {
        return;
    }
    message(field, out, |out| {
        bytes(1, name.as_bytes(), out);
        message(2, out, |out| any_value(value, out));
    });
}

/// The content of an `AnyValue`.
pub(super) fn any_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::String(text) => bytes(1, text.as_bytes(), out),
        Value::Bool(value) => integer(2, u64::from(*value), out),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => integer(3, value.cast_unsigned(), out),
            (None, value) => fixed64(4, value.unwrap_or_default().to_bits(), out),
        },
        Value::Array(values) => message(5, out, |out| {
            for value in values {
                message(1, out, |out| any_value(value, out));
            }
        }),
        Value::Object(members) => message(6, out, |out| {
            for (name, value) in members {
                attribute(1, name, value, out);
            }
        }),
    }
}

/// One field of a message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field<'a> {
    Integer(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a message, in order; ends early, with an error, where it is not one.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in 0..VARINT_BYTES_MAX {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(first & 0x7f) << (7 * shift);
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let wire = low_bits(key & 7);
        let field = match wire {
            VARINT => Field::Integer(self.varint()?),
            FIXED64 => self.take(8).map(|_| Field::Fixed)?,
            FIXED32 => self.take(4).map(|_| Field::Fixed)?,
            LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((key >> 3, field))
    }
}

/// All fields of a message, or `None` where it is not one.
fn fields(message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut rest = Fields(message);
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        found.push(rest.field()?);
    }
    Some(found)
}

/// What an `ExportLogsServiceResponse` says of the records that were not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartialSuccess {
    /// `rejected_log_records`.
    pub(super) rejected: u64,
    /// `error_message`.
    pub(super) message: String,
}

/// Reads an `ExportLogsServiceResponse`; `None` where it is not one.
pub(super) fn export_response(answer: &[u8]) -> Option<PartialSuccess> {
    let mut partial = PartialSuccess::default();
    for (number, field) in fields(answer)? {
        let (1, Field::Bytes(inner)) = (number, field) else { continue };
        for (number, field) in fields(inner)? {
            match (number, field) {
                // A negative count would be a mistake of the other side: it counts as none.
                (1, Field::Integer(count)) => {
                    partial.rejected = u64::try_from(count.cast_signed()).unwrap_or(0);
                }
                (2, Field::Bytes(text)) => partial.message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    Some(partial)
}

/// A `google.rpc.Status`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// In words.
    pub(super) message: String,
    /// Of a `google.rpc.RetryInfo` among its details.
    pub(super) retry_delay: Option<Duration>,
}

/// Reads a `google.rpc.Status`; `None` where it is not one.
pub(super) fn status(answer: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    for (number, field) in fields(answer)? {
        match (number, field) {
            (2, Field::Bytes(text)) => status.message = std::str::from_utf8(text).ok()?.to_owned(),
            (3, Field::Bytes(any)) => status.retry_delay = retry_info(any).or(status.retry_delay),
            _ => {}
        }
    }
    Some(status)
}

fn retry_info(any: &[u8]) -> Option<Duration> {
    let any = fields(any)?;
    let part = |wanted| {
        any.iter().find_map(|(number, field)| match field {
            Field::Bytes(bytes) if *number == wanted => Some(*bytes),
            _ => None,
        })
    };
    if !part(1)?.ends_with(b"/google.rpc.RetryInfo") {
        return None;
    }
    // An info without a delay still says that trying again is right.
    let mut delay = Duration::ZERO;
    for (number, field) in fields(part(2).unwrap_or_default())? {
        let (1, Field::Bytes(duration)) = (number, field) else { continue };
        for (number, field) in fields(duration)? {
            match (number, field) {
                (1, Field::Integer(seconds)) => {
                    delay += Duration::from_secs(seconds.min(u64::from(u32::MAX)));
                }
                (2, Field::Integer(nanos)) => delay += Duration::from_nanos(nanos.min(999_999_999)),
                _ => {}
            }
        }
    }
    Some(delay)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn values_are_written_as_the_specification_has_them() {
        // https://protobuf.dev/programming-guides/encoding/: field 1, varint 150.
        assert_eq!(written(|out| integer(1, 150, out)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|out| bytes(2, b"testing", out)), *b"\x12\x07testing");
        assert_eq!(written(|out| message(3, out, |out| integer(1, 150, out))), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(written(|out| fixed64(1, 1, out)), [9, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|out| any_value(&json!(-1), out)).len(), 11);
        assert_eq!(written(|out| any_value(&json!(true), out)), [0x10, 1]);
        assert_eq!(written(|out| any_value(&json!(0.5), out)), [0x21, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f]);
        let list = written(|out| any_value(&json!(["a", 1]), out));
        assert_eq!(list, [0x2a, 9, 0x0a, 3, 0x0a, 1, b'a', 0x0a, 2, 0x18, 1]);
        let object = written(|out| any_value(&json!({"k": "v", "none": null}), out));
        assert_eq!(object, [0x32, 10, 0x0a, 8, 0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'v']);
    }

    #[test]
    fn a_long_message_has_its_length_before_it() {
        let long = written(|out| message(1, out, |out| bytes(1, &[7; 300], out)));
        assert_eq!(long[..6], [0x0a, 0xaf, 0x02, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 306);
    }

    #[test]
    fn an_answer_tells_what_was_not_taken() {
        assert_eq!(export_response(b""), Some(PartialSuccess::default()));
        let answer = written(|out| {
            message(1, out, |out| {
                integer(1, 3, out);
                bytes(2, b"too old", out);
            });
        });
        let partial = PartialSuccess { rejected: 3, message: "too old".into() };
        assert_eq!(export_response(&answer), Some(partial));
        assert_eq!(export_response(b"<html>"), None);
        assert_eq!(export_response(&answer[..answer.len() - 1]), None);
    }

    #[test]
    fn a_status_tells_when_to_try_again() {
        let info = |delay: &dyn Fn(&mut Vec<u8>)| {
            written(|out| {
                integer(1, 8, out);
                bytes(2, b"quota", out);
                message(3, out, |out| {
                    bytes(1, b"type.googleapis.com/google.rpc.RetryInfo", out);
                    message(2, out, |out| delay(out));
                });
            })
        };
        let with = info(&|out| {
            message(1, out, |out| {
                integer(1, 2, out);
                integer(2, 500_000_000, out);
            });
        });
        let expected = Status { message: "quota".into(), retry_delay: Some(Duration::from_millis(2500)) };
        assert_eq!(status(&with), Some(expected));
        assert_eq!(status(&info(&|_| {})).unwrap().retry_delay, Some(Duration::ZERO));
        let other = written(|out| message(3, out, |out| bytes(1, b"x/google.rpc.Help", out)));
        assert_eq!(status(&other).unwrap().retry_delay, None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(rejected in 0..i64::MAX as u64, text in ".{0,200}") {
            let answer = written(|out| message(1, out, |out| {
                integer(1, rejected, out);
                bytes(2, text.as_bytes(), out);
            }));
            prop_assert_eq!(export_response(&answer), Some(PartialSuccess { rejected, message: text }));
        }

        #[test]
        fn no_answer_is_too_odd_to_be_read(answer in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = export_response(&answer);
            let _ = status(&answer);
        }
    }
}
