// The list of encodings. A new one is a file in this folder and a line here; tests, help and the published table
// walk the list.

/// The encodings Smelt knows.
public enum Encodings {
  /// All of them, in the order help shows them.
  public static let all: [any Encoding] = [
    Plain.f32, Plain.f16, Plain.bf16,
    IntegerTable.i64, IntegerTable.i32,
  ]

  /// The encoding of a stable name, or nil. Block sizes other than the usual are part of the name.
  public static func named(_ name: String) -> (any Encoding)? {
    all.first { $0.name == name }
  }
}
