# Names that PyInstaller reads.
from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("npshapenet")
module_collection_mode = {"npshapenet.jit": "pyz+py"}
