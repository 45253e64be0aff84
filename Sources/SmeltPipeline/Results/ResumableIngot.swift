// Going on with a conversion that was stopped: what it was (the header of the journal) must be what is asked for now, and what
// is done (its entries) is not done again. Formats/ingot.md, section 8.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The journal of a conversion to an ingot.
struct ConversionJournal {
  /// A weight that is done.
  struct Done {
    var slab: String
    var inexactValues: Int
    var sourceHash: String
  }

  /// What a conversion is: program, source, recipe, statistics, and every slab of the plan.
  static func header(_ model: Model, _ plan: Plan, _ options: ConvertOptions) throws -> JSON {
    var slabs = XXH64()
    for slab in plan.slabs {
      Array("\(slab.name) \(slab.encoding.name) \(slab.shape)\n".utf8).withUnsafeBytes { slabs.update($0) }
    }
    return [
      "schema": "smelt.journal/2", "origin": try provenance(model, options), "files": try model.identity(),
      "compression": JSON(options.target.compression?.rawValue ?? ""),
      "max_part_bytes": (options.target as? IngotResult)?.maxPartBytes.map { JSON($0) } ?? JSON(.null),
      "plan_xxh64": JSON(hexadecimal(slabs.value())), "slabs": JSON(plan.slabs.count),
    ]
  }

  /// An entry: the slabs that ended since the last one, their index records, and how far the file goes.
  static func entry(_ done: [Done], _ progress: IngotProgress) -> JSON {
    [
      "done": JSON(
        done.map {
          [
            "slab": JSON($0.slab), "inexact_values": JSON($0.inexactValues),
            "source_xxh64": JSON($0.sourceHash),
          ]
        }),
      "records": JSON(hexadecimal(progress.records)), "file": JSON(progress.fileNumber),
      "position": JSON(progress.position),
    ]
  }

  /// What all entries say together.
  struct State {
    var done: [Done] = []
    var progress: [IngotProgress] = []
  }

  /// Reads entries.
  /// - Throws: `RESUME_MISMATCH` for an entry that is none.
  static func state(_ entries: [JSON], file: String) throws(FormatError) -> State {
    var state = State()
    for entry in entries {
      let last = state.progress.last ?? IngotProgress(records: [], fileNumber: 1, position: 0)
      guard let done = entry["done"]?.array, let records = entry["records"]?.string.flatMap(bytes(ofHex:)),
        let number = entry["file"]?.integer, let position = entry["position"]?.integer, position >= 0,
        number == last.fileNumber && position >= last.position || number == last.fileNumber + 1
      else { throw FormatError(.resumeMismatch, file: file, "holds an entry that is none") }
      for item in done {
        guard let slab = item["slab"]?.string, let inexact = item["inexact_values"]?.integer,
          let hash = item["source_xxh64"]?.string
        else { throw FormatError(.resumeMismatch, file: file, "holds an entry that is none") }
        state.done.append(Done(slab: slab, inexactValues: inexact, sourceHash: hash))
      }
      state.progress.append(IngotProgress(records: records, fileNumber: number, position: position))
    }
    return state
  }
}

private func bytes(ofHex text: String) -> [UInt8]? {
  let digits = Array(text.utf8)
  guard digits.count % 2 == 0 else { return nil }
  func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit - 0x30
    case 0x61...0x66: digit - 0x61 + 10
    default: nil
    }
  }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(digits.count / 2)
  for place in stride(from: 0, to: digits.count, by: 2) {
    guard let high = value(digits[place]), let low = value(digits[place + 1]) else { return nil }
    bytes.append(high << 4 | low)
  }
  return bytes
}
