module_collection_mode = "pyz+py"
