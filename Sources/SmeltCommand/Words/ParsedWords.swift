// The words of the command that runs.

import Synchronization

/// What the parser took.
enum ParsedWords {
  /// In the spelling that was parsed, the verb first.
  static let words = Mutex<[String]>([])
}
