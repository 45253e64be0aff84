// What a result says about its origin.

import SmeltModels
import SmeltQuantization
import SmeltStorage

/// The ledger as results carry it.
func ledgerFile(_ ledger: [LedgerEntry]) -> Bytes {
  let text = JSON(members: [("schema", "smelt.ledger/1"), ("ledger", JSON(ledger.map(\.recorded)))]).text()
  return Bytes(Array(text.utf8))
}

/// What a result says about its origin. Nothing in it depends on the time, the machine or the number of threads.
/// - Parameter ledger: what reading the source told, where it was read: its hash is said then.
func provenance(_ model: Model, _ options: ConvertOptions, _ ledger: [LedgerEntry]? = nil) throws -> JSON {
  var source: [(String, JSON)] = [("container", JSON(model.containerName))]
  source += RemoteModels.origin(model.path)
  if let hash = model.source.contentHash {
    if model.family is UnknownArchitecture { source.append(("dialect", JSON(model.family.dialects[0]))) }
    source.append(("content_hash", JSON(hash)))
  } else {
    source.append(("dialect", JSON(model.source.dialect)))
    source.append(
      ("files", JSON(model.files.map { ["name": JSON(fileName($0.path)), "bytes": JSON($0.byteCount)] })))
  }
  if let ledger { source.append(("sha256", JSON(sourceHash(ledger)))) }
  var carried: [(String, JSON)] = []
  if let carrying = model.family as? CarryingFamily {
    let drafts = model.drafts.count
    carried.append(("carried", JSON(carrying.carriedCount - (options.drafts == .drop ? drafts : 0))))
    if drafts > 0 { carried.append(("mtp", JSON(options.drafts.rawValue))) }
    if let form = carrying.wrapper { carried.append(("wrapper", JSON(form.rawValue))) }
  }
  if let unknown = model.family as? UnknownArchitecture {
    carried.append((IngotSource.noFamily, JSON(unknown.refusal)))
  }
  let members: [(String, JSON)] = [
    ("format", "smelt.ingot/2"), ("tool", JSON("smelt \(smeltVersion)")),
    ("family", JSON(model.family.modelType)),
    ("source", JSON(members: source)), ("recipe", options.recipe.json), ("method", options.method),
    ("statistics", options.statistics.map(\.provenance) ?? JSON(.null)),
  ]
  let target = options.words.isNull ? [] : [("target", options.words)]
  return JSON(members: members + target + carried)
}

extension Statistics {
  /// The metadata, after the hash of the file that they were read from.
  fileprivate var provenance: JSON {
    let hash = fileHash.map { [("sha256", JSON($0))] } ?? []
    return JSON(members: hash + metadata.map { ($0.key, JSON($0.value)) })
  }
}

/// SHA-256 of the lines "name XXH64" of the source's tensors that were read, in the ledger's order.
func sourceHash(_ ledger: [LedgerEntry]) -> String {
  let lines = ledger.compactMap { entry in entry.sourceHash.map { "\(entry.source) \($0)\n" } }.joined()
  return SHA256.hex(Bytes(Array(lines.utf8)))
}
