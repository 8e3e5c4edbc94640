//! Helpers for parsing the service's XML documents.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// Appends the text of an event to `text`, or nothing if the event has no text. The text of an element with entities
/// comes in several events. The error says why the document cannot be parsed.
pub(crate) fn push_text(event: &Event<'_>, text: &mut String) -> Result<(), String> {
    match event {
        Event::Text(piece) => text.push_str(&piece.decode().map_err(|error| error.to_string())?),
        Event::CData(piece) => text.push_str(&piece.decode().map_err(|error| error.to_string())?),
        Event::GeneralRef(reference) => {
            let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
            let name = reference.decode().map_err(|error| error.to_string())?;
            match (character, resolve_predefined_entity(&name)) {
                (Some(character), _) => text.push(character),
                (None, Some(piece)) => text.push_str(piece),
                (None, None) => return Err("it has an unknown entity".to_owned()),
            }
        }
        _ => {}
    }
    Ok(())
}
