"""Networks between here and a store: namespaces with a rate and a delay, and a proxy that does harm."""
