//! Evidence formats, verification of evidence to claims, admission of claims against a package.
