//! The oracle's form of decoded values, as `testdata/json/README.md` describes it.
//!
//! A list, map or byte string that is present and empty is treated as unset, except where that makes a difference:
//! `DNSNames`, `IPAddresses`, `ExtKeyUsage`, and `Private` and `Key` of a user secret.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use marblerun_manifest::*;
use serde_json::{Map, Value, json};

/// Collects members and leaves defaults out.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn set(mut self, name: &str, value: impl Into<Option<Value>>) -> Self {
        if let Some(value) = value.into() {
            self.0.insert(name.into(), value);
        }
        self
    }

    fn bool(self, name: &str, value: bool) -> Self {
        self.set(name, value.then_some(json!(true)))
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.set(name, (!value.is_empty()).then(|| json!(value)))
    }

    fn number<N: Into<Value> + Default + PartialEq>(self, name: &str, value: N) -> Self {
        let unset = value == N::default();
        self.set(name, (!unset).then(|| value.into()))
    }

    fn list<T>(self, name: &str, values: &[T], form: impl Fn(&T) -> Value) -> Self {
        self.set(name, (!values.is_empty()).then(|| values.iter().map(form).collect::<Value>()))
    }

    fn strings(self, name: &str, values: &[String]) -> Self {
        self.list(name, values, |value| json!(value))
    }

    fn map<T>(self, name: &str, values: &BTreeMap<String, T>, form: impl Fn(&T) -> Value) -> Self {
        self.set(name, (!values.is_empty()).then(|| map(values, form)))
    }

    fn bytes(self, name: &str, value: Option<&[u8]>) -> Self {
        self.set(name, value.map(bytes))
    }

    /// A structure, left out if nothing in it is set.
    fn object(self, name: &str, value: Value) -> Self {
        let unset = value == json!({});
        self.set(name, (!unset).then_some(value))
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn map<T>(values: &BTreeMap<String, T>, form: impl Fn(&T) -> Value) -> Value {
    Value::Object(values.iter().map(|(name, value)| (name.clone(), form(value))).collect())
}

fn bytes(value: &[u8]) -> Value {
    json!(STANDARD.encode(value))
}

pub(crate) fn manifest(manifest: &Manifest) -> Value {
    let config = &manifest.config;
    Object::default()
        .map("Packages", &manifest.packages, |package| {
            Object::default()
                .bool("Debug", package.debug)
                .text("UniqueID", &package.unique_id)
                .text("SignerID", &package.signer_id)
                .set("ProductID", package.product_id.map(Value::from))
                .set("SecurityVersion", package.security_version.map(Value::from))
                .strings("AcceptedTCBStatuses", &package.accepted_tcb_statuses)
                .strings("AcceptedAdvisories", &package.accepted_advisories)
                .done()
        })
        .map("Infrastructures", &manifest.infrastructures, |infrastructure| {
            Object::default()
                .bytes("CPUSVN", infrastructure.cpu_svn.as_deref())
                .set("QESVN", infrastructure.qe_svn.map(Value::from))
                .set("PCESVN", infrastructure.pce_svn.map(Value::from))
                .bytes("RootCA", infrastructure.root_ca.as_deref())
                .done()
        })
        .map("Marbles", &manifest.marbles, |marble| {
            let parameters = Object::default()
                .map("Files", &marble.parameters.files, file)
                .map("Env", &marble.parameters.env, file)
                .strings("Argv", &marble.parameters.argv)
                .done();
            Object::default()
                .text("Package", &marble.package)
                .number("MaxActivations", marble.max_activations)
                .object("Parameters", parameters)
                .strings("TLS", &marble.tls)
                .bool("DisableSecretBinding", marble.disable_secret_binding)
                .done()
        })
        .map("Users", &manifest.users, |user| {
            Object::default().text("Certificate", &user.certificate).strings("Roles", &user.roles).done()
        })
        .map("Secrets", &manifest.secrets, |secret| {
            Object::default()
                .text("Type", &secret.type_word)
                .number("Size", secret.size)
                .bool("Shared", secret.shared)
                .bool("UserDefined", secret.user_defined)
                .set("Cert", certificate(&secret.cert))
                .number("ValidFor", secret.valid_for)
                .bytes("Private", secret.private.as_deref())
                .bytes("Public", secret.public.as_deref())
                .done()
        })
        .map("RecoveryKeys", &manifest.recovery_keys, |pem| json!(pem))
        .map("Roles", &manifest.roles, |role| {
            Object::default()
                .text("ResourceType", &role.resource_type)
                .strings("ResourceNames", &role.resource_names)
                .strings("Actions", &role.actions)
                .done()
        })
        .map("TLS", &manifest.tls, |tag| {
            Object::default()
                .list("Incoming", &tag.incoming, tls_entry)
                .list("Outgoing", &tag.outgoing, tls_entry)
                .done()
        })
        .object(
            "Config",
            Object::default()
                .text("SealMode", &config.seal_mode_word)
                .strings("FeatureGates", &config.feature_gates)
                .number("UpdateThreshold", config.update_threshold)
                .number("RecoveryThreshold", config.recovery_threshold)
                .bool("RotateRootSecret", config.rotate_root_secret)
                .done(),
        )
        .done()
}

fn file(file: &File) -> Value {
    Object::default().set("Data", bytes(&file.data)).bool("NoTemplates", file.no_templates).done()
}

fn tls_entry(entry: &TlsEntry) -> Value {
    Object::default()
        .text("Port", &entry.port)
        .text("Addr", &entry.addr)
        .text("Cert", &entry.cert)
        .bool("DisableClientAuth", entry.disable_client_auth)
        .done()
}

pub(crate) fn user_secrets(secrets: &BTreeMap<String, UserSecret>) -> Value {
    map(secrets, |secret| {
        Object::default()
            .set("Cert", certificate(&secret.cert))
            .set("Private", secret.private.as_ref().map(|private| bytes(private.expose())))
            .set("Key", secret.key.as_ref().map(|key| bytes(key.expose())))
            .done()
    })
}

pub(crate) fn certificate(certificate: &SecretCertificate) -> Option<Value> {
    let value = match certificate {
        SecretCertificate::Unset | SecretCertificate::Unreadable => json!({}),
        SecretCertificate::Der(der) => json!({ "DER": bytes(der) }),
        SecretCertificate::Template(template) => self::template(template),
    };
    (value != json!({})).then_some(value)
}

fn template(template: &CertificateTemplate) -> Value {
    let ignored = &template.ignored;
    let with_effect = Object::default()
        .object("Subject", subject(&template.subject))
        .bytes("RawSubject", template.raw_subject.as_deref())
        .set("NotAfter", time(&template.not_after))
        .number("KeyUsage", template.key_usage)
        .set("ExtKeyUsage", template.ext_key_usage.as_ref().map(|numbers| json!(numbers)))
        .list("UnknownExtKeyUsage", &template.unknown_ext_key_usage, |oid| json!(oid))
        .bool("IsCA", template.is_ca)
        .number("MaxPathLen", template.max_path_len)
        .bool("MaxPathLenZero", template.max_path_len_zero)
        .bytes("SubjectKeyId", template.subject_key_id.as_deref())
        .strings("OCSPServer", &template.ocsp_server)
        .strings("IssuingCertificateURL", &template.issuing_certificate_url)
        .set("DNSNames", template.dns_names.as_ref().map(|names| json!(names)))
        .strings("EmailAddresses", &template.email_addresses)
        .set("IPAddresses", template.ip_addresses.as_ref().map(|addresses| addresses.iter().map(ip).collect::<Value>()))
        .list("URIs", &template.uris, |url| url.as_ref().map_or(Value::Null, self::url))
        .bool("PermittedDNSDomainsCritical", template.permitted_dns_domains_critical)
        .strings("PermittedDNSDomains", &template.permitted_dns_domains)
        .strings("ExcludedDNSDomains", &template.excluded_dns_domains)
        .list("PermittedIPRanges", &template.permitted_ip_ranges, ip_range)
        .list("ExcludedIPRanges", &template.excluded_ip_ranges, ip_range)
        .strings("PermittedEmailAddresses", &template.permitted_email_addresses)
        .strings("ExcludedEmailAddresses", &template.excluded_email_addresses)
        .strings("PermittedURIDomains", &template.permitted_uri_domains)
        .strings("ExcludedURIDomains", &template.excluded_uri_domains)
        .strings("CRLDistributionPoints", &template.crl_distribution_points)
        .list("Policies", &template.policies, |oid| json!(oid.as_str()))
        .list("ExtraExtensions", &template.extra_extensions, extension)
        .number("SignatureAlgorithm", template.signature_algorithm);
    with_effect
        .bytes("Raw", ignored.raw.as_deref())
        .bytes("RawTBSCertificate", ignored.raw_tbs_certificate.as_deref())
        .bytes("RawSubjectPublicKeyInfo", ignored.raw_subject_public_key_info.as_deref())
        .bytes("RawIssuer", ignored.raw_issuer.as_deref())
        .bytes("Signature", ignored.signature.as_deref())
        .number("PublicKeyAlgorithm", ignored.public_key_algorithm)
        .number("Version", ignored.version)
        .set("SerialNumber", ignored.serial_number.0.clone().map(Value::from))
        .object("Issuer", subject(&ignored.issuer))
        .set("NotBefore", time(&ignored.not_before))
        .bytes("AuthorityKeyId", ignored.authority_key_id.as_deref())
        .bool("BasicConstraintsValid", ignored.basic_constraints_valid)
        .list("Extensions", &ignored.extensions, extension)
        .list("UnhandledCriticalExtensions", &ignored.unhandled_critical_extensions, |oid| json!(oid))
        .list("PolicyIdentifiers", &ignored.policy_identifiers, |oid| json!(oid))
        .number("InhibitAnyPolicy", ignored.inhibit_any_policy)
        .bool("InhibitAnyPolicyZero", ignored.inhibit_any_policy_zero)
        .number("InhibitPolicyMapping", ignored.inhibit_policy_mapping)
        .bool("InhibitPolicyMappingZero", ignored.inhibit_policy_mapping_zero)
        .number("RequireExplicitPolicy", ignored.require_explicit_policy)
        .bool("RequireExplicitPolicyZero", ignored.require_explicit_policy_zero)
        .list("PolicyMappings", &ignored.policy_mappings, |mapping| {
            Object::default()
                .text("IssuerDomainPolicy", mapping.issuer_domain_policy.as_str())
                .text("SubjectDomainPolicy", mapping.subject_domain_policy.as_str())
                .done()
        })
        .done()
}

fn subject(subject: &SubjectName) -> Value {
    Object::default()
        .strings("Country", &subject.country)
        .strings("Organization", &subject.organization)
        .strings("OrganizationalUnit", &subject.organizational_unit)
        .strings("Locality", &subject.locality)
        .strings("Province", &subject.province)
        .strings("StreetAddress", &subject.street_address)
        .strings("PostalCode", &subject.postal_code)
        .text("SerialNumber", &subject.serial_number)
        .text("CommonName", &subject.common_name)
        .list("ExtraNames", &subject.extra_names, attribute)
        .list("Names", &subject.names, attribute)
        .done()
}

fn attribute(attribute: &AttributeTypeAndValue) -> Value {
    let value: Option<Value> =
        (!attribute.value.0.is_empty()).then(|| serde_json::from_slice(&attribute.value.0).unwrap());
    Object::default()
        .list("Type", &attribute.oid, |arc| json!(arc))
        .set("Value", value.filter(|value| !value.is_null()))
        .done()
}

fn extension(extension: &ExtraExtension) -> Value {
    Object::default()
        .list("Id", &extension.id, |arc| json!(arc))
        .bool("Critical", extension.critical)
        .bytes("Value", extension.value.as_deref())
        .done()
}

fn url(url: &UrlObject) -> Value {
    Object::default()
        .text("Scheme", &url.scheme)
        .text("Opaque", &url.opaque)
        .set("User", url.user.map(|NoMembers| json!({})))
        .text("Host", &url.host)
        .text("Path", &url.path)
        .text("RawPath", &url.raw_path)
        .text("RawQuery", &url.raw_query)
        .text("Fragment", &url.fragment)
        .text("RawFragment", &url.raw_fragment)
        .bool("ForceQuery", url.force_query)
        .bool("OmitHost", url.omit_host)
        .done()
}

fn ip(address: &Option<std::net::IpAddr>) -> Value {
    address.map_or(Value::Null, |address| json!(address.to_string()))
}

fn ip_range(range: &Option<IpRange>) -> Value {
    let Some(range) = range else { return Value::Null };
    Object::default().set("IP", range.ip.map(|ip| json!(ip.to_string()))).bytes("Mask", range.mask.as_deref()).done()
}

fn time(time: &Timestamp) -> Option<Value> {
    (!time.is_unset()).then(|| json!(time.to_string()))
}

/// The value without lists, maps and structures that are present and empty, where that equals being unset.
pub(crate) fn without_empty(value: &Value) -> Value {
    const EMPTY_EQUALS_UNSET: [&str; 47] = [
        "Packages",
        "Infrastructures",
        "Marbles",
        "Users",
        "Secrets",
        "RecoveryKeys",
        "Roles",
        "TLS",
        "Config",
        "AcceptedTCBStatuses",
        "AcceptedAdvisories",
        "Parameters",
        "Files",
        "Env",
        "Argv",
        "ResourceNames",
        "Actions",
        "Incoming",
        "Outgoing",
        "FeatureGates",
        "Subject",
        "Issuer",
        "UnknownExtKeyUsage",
        "URIs",
        "ExtraExtensions",
        "Extensions",
        "UnhandledCriticalExtensions",
        "Policies",
        "PolicyIdentifiers",
        "PolicyMappings",
        "OCSPServer",
        "IssuingCertificateURL",
        "EmailAddresses",
        "CRLDistributionPoints",
        "PermittedIPRanges",
        "ExcludedIPRanges",
        "Country",
        "Organization",
        "OrganizationalUnit",
        "Locality",
        "Province",
        "StreetAddress",
        "PostalCode",
        "ExtraNames",
        "Names",
        "Type",
        "Id",
    ];
    match value {
        Value::Array(elements) => elements.iter().map(without_empty).collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), without_empty(value)))
                .filter(|(name, value)| {
                    let empty = *value == json!([]) || *value == json!({});
                    !(empty && EMPTY_EQUALS_UNSET.contains(&name.as_str()))
                })
                .collect(),
        ),
        other => other.clone(),
    }
}
