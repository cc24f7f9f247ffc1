use marblerun_json::{Decode, DecodeError, DecodeErrorKind as Kind, Decoder, ValueKind, decode_base64, decode_object};

/// Content of a file or of an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The content, already decoded; a template unless `no_templates`.
    pub data: Vec<u8>,
    /// How the content was written in the manifest; of no further effect.
    pub encoding: Encoding,
    /// The content is passed on as it is.
    pub no_templates: bool,
}

/// How the content of a [`File`] is written in the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `string`: as text.
    #[default]
    String,
    /// `base64`: standard alphabet, padded, line ends skipped.
    Base64,
    /// `hex`: an even number of digits.
    Hex,
}

/// The object form, before `Data` is decoded; the members may come in any order.
#[derive(Default)]
struct FileObject {
    data: String,
    encoding: String,
    no_templates: bool,
}

decode_object!(FileObject { "Data" => data, "Encoding" => encoding, "NoTemplates" => no_templates });

impl Decode for File {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let offset = decoder.offset();
        match decoder.kind() {
            ValueKind::String => *self = Self { data: decoder.string()?.into_bytes(), ..Self::default() },
            ValueKind::Object => {
                let mut object = FileObject::default();
                object.decode(decoder)?;
                *self = object.into_file().map_err(|kind| decoder.error_at(kind, offset))?;
            }
            got => {
                let expected = "a string, or an object with Data, Encoding and NoTemplates";
                return Err(decoder.error(Kind::Type { expected, got }));
            }
        }
        Ok(())
    }
}

impl FileObject {
    fn into_file(self) -> Result<File, Kind> {
        let encoding = match self.encoding.to_ascii_lowercase().as_str() {
            "" | "string" => Encoding::String,
            "base64" => Encoding::Base64,
            "hex" => Encoding::Hex,
            _ => {
                return Err(Kind::Encoding { got: crate::certificate::shorten(&self.encoding) });
            }
        };
        let data = match encoding {
            Encoding::String => self.data.into_bytes(),
            Encoding::Base64 => decode_base64(&self.data).ok_or(Kind::Base64)?,
            Encoding::Hex => hex::decode(&self.data).map_err(|_| Kind::Hex)?,
        };
        Ok(File { data, encoding, no_templates: self.no_templates })
    }
}
