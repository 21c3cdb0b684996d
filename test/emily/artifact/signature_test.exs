defmodule Emily.Artifact.SignatureTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Signature, SignatureError}
  alias Emily.Test.ReleaseFactory

  # Made by minisign itself; published with its Rust implementation's tests.
  @key """
  untrusted comment: minisign public key E7620F1842B4E81F
  RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3
  """
  @signature """
  untrusted comment: signature from minisign secret key
  RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
  trusted comment: timestamp:1556193335\tfile:test
  y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
  """

  test "a signature by minisign itself holds, up to the comment that a release must have" do
    {:ok, key} = Signature.decode_key(@key)
    assert Signature.id(key.id) == "E7620F1842B4E81F"

    assert {:error, %SignatureError{} = error} = Signature.verify("test", @signature, key, "test")
    assert error.expected == "the trusted comment file:test"
    assert error.actual == "timestamp:1556193335\tfile:test"

    assert {:error, error} = Signature.verify("tesT", @signature, key, "test")
    assert error.expected == "a signature of this very file"
  end

  test "a signature made here holds for its bytes, file and key" do
    key = ReleaseFactory.key()
    text = ReleaseFactory.sign("bytes", key, "file:a.sha256")
    assert Signature.verify("bytes", text, key.public, "a.sha256") == :ok

    assert {:error, %SignatureError{}} =
             Signature.verify("bytes", String.replace(text, "\n", "\r\n"), key.public, "a.sha256")

    assert {:error, %SignatureError{}} = Signature.verify("bytes", text, key.public, "b.sha256")
  end

  test "every byte of a signature counts" do
    key = ReleaseFactory.key()
    text = ReleaseFactory.sign("bytes", key, "file:a.sha256")
    [untrusted, first, comment, global, ""] = String.split(text, "\n")

    for {line, put} <- [
          {first, &[untrusted, &1, comment, global, ""]},
          {global, &[untrusted, first, comment, &1, ""]}
        ],
        bytes = Base.decode64!(line),
        at <- 0..(byte_size(bytes) - 1) do
      <<before::binary-size(^at), byte, rest::binary>> = bytes
      changed = Base.encode64(<<before::binary, Bitwise.bxor(byte, 1), rest::binary>>)

      assert {:error, %SignatureError{}} =
               Signature.verify("bytes", Enum.join(put.(changed), "\n"), key.public, "a.sha256")
    end
  end

  test "a text that is no key is refused" do
    for text <- [
          "",
          "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
          "untrusted comment: x\nRWQf\n"
        ] do
      assert {:error, %SignatureError{} = error} = Signature.decode_key(text)

      assert Exception.message(error) == """
             could not trust the public key

               expected  minisign's two-line public key file
               actual    #{inspect(text, printable_limit: 60)}

             Do not go around it: run `mix compile` to try again, and report it if it repeats.\
             """
    end
  end
end
