"""Lays folders out as nginx serves a hub: site.py ROOT COMMIT ID=FOLDER...

ROOT/api/models/ID/revision/main and ROOT/api/models/ID/tree/COMMIT are what the hub's API says, ROOT/files/ID are the files. With
ID=wide a checkpoint of 160 shards and 149,440 tensors is made instead.
"""
import hashlib
import json
import os
import struct
import sys


def wide(folder):
    os.makedirs(folder)
    names, shards, each = {}, 160, 934
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        header, place = {}, 0
        for tensor in range(each):
            name = f"model.layers.{shard}.mlp.experts.{tensor // 3}.{('gate', 'up', 'down')[tensor % 3]}_proj.weight"
            header[name] = {"dtype": "BF16", "shape": [4, 8], "data_offsets": [place, place + 64]}
            names[name] = file
            place += 64
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(f"{folder}/{file}", "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text + bytes(place))
    with open(f"{folder}/model.safetensors.index.json", "w") as out:
        json.dump({"metadata": {"total_size": shards * each * 64}, "weight_map": names}, out)
    with open(f"{folder}/config.json", "w") as out:
        json.dump({"model_type": "wide_example", "architectures": ["WideForCausalLM"]}, out)


def main():
    root, commit = sys.argv[1:3]
    for word in sys.argv[3:]:
        name, folder = word.split("=", 1)
        files = f"{root}/files/{name}"
        os.makedirs(os.path.dirname(files), exist_ok=True)
        if folder == "wide":
            wide(files)
        elif not os.path.exists(files):
            os.symlink(os.path.abspath(folder), files)
        listing = []
        for home, _, names in os.walk(files, followlinks=True):
            for file in sorted(names):
                path = os.path.join(home, file)
                entry = {"type": "file", "path": os.path.relpath(path, files), "size": os.path.getsize(path)}
                if file.endswith(".safetensors"):
                    with open(path, "rb") as data:
                        entry["lfs"] = {"oid": hashlib.file_digest(data, "sha256").hexdigest(), "size": entry["size"]}
                else:
                    data = open(path, "rb").read()
                    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
                listing.append(entry)
        api = f"{root}/api/models/{name}"
        os.makedirs(f"{api}/revision", exist_ok=True)
        os.makedirs(f"{api}/tree", exist_ok=True)
        with open(f"{api}/revision/main", "w") as out:
            json.dump({"sha": commit}, out)
        with open(f"{api}/tree/{commit}", "w") as out:
            json.dump(listing, out)


main()
