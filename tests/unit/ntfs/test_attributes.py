from windowsfilter.ntfs.attributes import FileAttribute, describe, letters


def test_attributes_read_as_words():
    assert describe(0x26) == ["hidden", "system", "archive"]
    assert describe(0x410) == ["directory", "reparse point"]
    assert describe(0) == []


def test_bits_without_a_name_are_shown_as_a_number():
    assert describe(0x80000020) == ["archive", "0x80000000"]


def test_letters_keep_their_order():
    assert letters(FileAttribute.HIDDEN | FileAttribute.ARCHIVE | FileAttribute.SYSTEM) == "ASH"
    assert letters(0xFFFFFFFF) == "DASHRLCETOIXVPUB"
    assert letters(FileAttribute.NORMAL) == ""


def test_every_named_bit_has_its_word():
    assert all(len(describe(flag)) == 1 and "0x" not in describe(flag)[0] for flag in FileAttribute)
    assert len({describe(flag)[0] for flag in FileAttribute}) == len(FileAttribute)
