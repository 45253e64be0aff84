// The example of the library's documentation. Sources/Smelt/Smelt.docc/TenLines.md shows what lies between the marks, and a test
// holds the two together and runs it.

// example begins
import Smelt

func shrink(_ source: String, into result: String, checkedOn text: String) throws -> Bool {
  let run = Run { print("\($0.stage): \($0.done) of \($0.total) \($0.unit)") }
  let model = try Model(opening: source)
  try model.convert(to: result, Conversion(scheme: "int8-channel"), run)
  let report = try model.verify(
    Model(opening: result), on: Text(text, tokenLimit: 1024), Criteria(profile: "near-lossless"), run)
  print(report.text)
  return report.verdict == .pass
}
// example ends
