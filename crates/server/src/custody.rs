//! Where private keys are kept, as the configuration says.

use std::sync::Arc;

use mayfly_mint::{Custody, ModuleSettings, Pkcs11Module};

use crate::config::Settings;

/// The custody that `[keys.pkcs11]` asks for. The module is loaded when it is first needed.
pub(crate) fn custody(settings: &Settings) -> Custody {
    match &settings.module {
        None => Custody::sealed(),
        Some(module) => {
            let found = ModuleSettings {
                module: module.module.clone(),
                token: module.token.clone(),
                pin_file: module.pin_file.clone(),
            };
            Custody::with_module(Arc::new(Pkcs11Module::new(found)), module.uses.iter().copied())
        }
    }
}
