# Names that PyInstaller reads.
from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs

datas = collect_data_files("npshapenet")
binaries = collect_dynamic_libs("npshapenet", search_patterns=["engine-*.so"])
module_collection_mode = {"npshapenet.jit": "pyz+py"}
