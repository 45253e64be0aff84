// What the journal of a conversion to an ingot says besides what is done: the records of the weights, and how far the files go.
// Formats/ingot.md, section 9.

import SmeltContainers
import SmeltStorage

/// What all entries of an ingot's journal say together.
struct ResumableIngot {
  var done: [ConversionJournal.Done] = []
  var progress: [IngotProgress] = []

  /// An entry: the slabs that ended since the last one, their index records, and how far the file goes.
  static func entry(_ done: [ConversionJournal.Done], _ progress: IngotProgress) -> JSON {
    [
      "done": ConversionJournal.list(done), "records": JSON(hexadecimal(progress.records)),
      "file": JSON(progress.fileNumber), "position": JSON(progress.position),
    ]
  }

  /// Reads entries.
  /// - Throws: `RESUME_MISMATCH` for an invalid entry.
  init(_ entries: [JSON], file: String) throws(FormatError) {
    for entry in entries {
      let last = progress.last ?? IngotProgress(records: [], fileNumber: 1, position: 0)
      guard let records = entry["records"]?.string.flatMap(bytes(ofHex:)),
        let number = entry["file"]?.integer, let position = entry["position"]?.integer, position >= 0,
        number == last.fileNumber && position >= last.position || number == last.fileNumber + 1
      else { throw FormatError(.resumeMismatch, file: file, "holds an invalid entry") }
      done += try ConversionJournal.done(entry, file: file)
      progress.append(IngotProgress(records: records, fileNumber: number, position: position))
    }
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
