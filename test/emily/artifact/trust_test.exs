defmodule Emily.Artifact.TrustTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact
  alias Emily.Artifact.{ChecksumError, Signature, SidecarError, SignatureError}

  defp serve(context, changes) do
    HttpServer.serve(context.server, Map.merge(context.release, changes))
  end

  defp sidecar(context), do: context.release[Artifact.sidecar(context.artifact)]

  # A signature of the sidecar that is right but for the options.
  defp sign(context, options) do
    name = Artifact.sidecar(context.artifact)
    bytes = Keyword.get(options, :bytes, sidecar(context))
    key = Keyword.get(options, :key, context.key)
    comment = Keyword.get(options, :comment, "file:" <> name)
    %{Artifact.signature(context.artifact) => ReleaseFactory.sign(bytes, key, comment, options)}
  end

  defp message(context, expected, actual) do
    """
    could not trust #{Artifact.sidecar(context.artifact)}

      url       #{context.server.url}#{Artifact.signature(context.artifact)}
      expected  #{expected}
      actual    #{actual}

    Do not go around it: run `mix compile` to try again, and report it if it repeats.\
    """
  end

  test "a wrong checksum is refused", context do
    archive = ReleaseFactory.archive(context.artifact, ReleaseFactory.files("another"))
    serve(context, %{context.artifact.asset => archive})
    assert Exception.message(refused(context, ChecksumError)) == unexpected(context, archive)
  end

  # What is said of bytes that are not the archive.
  defp unexpected(context, bytes) do
    """
    could not accept #{context.artifact.asset}: its checksum is not the published one

      url       #{context.server.url}#{context.artifact.asset}
      bytes     #{byte_size(bytes)}
      expected  #{Artifact.Checksum.of(context.release[context.artifact.asset])}
      actual    #{Artifact.Checksum.of(bytes)}

    Run `mix compile` to download it again; if it repeats, the release is damaged: report it.\
    """
  end

  test "a truncated file that claims to be whole is refused", context do
    archive = context.release[context.artifact.asset]
    half = binary_part(archive, 0, div(byte_size(archive), 2))
    script(context, %{context.artifact.asset => {:short, byte_size(half)}})
    assert Exception.message(refused(context, ChecksumError)) == unexpected(context, half)
  end

  test "the sidecar of another asset is refused, though it is signed", context do
    other = ReleaseFactory.artifact("cuda12")
    text = ReleaseFactory.sidecar(other, "its bytes")
    name = Artifact.sidecar(context.artifact)

    serve(context, Map.put(sign(context, bytes: text), name, text))
    error = refused(context, SidecarError)

    assert Exception.message(error) == """
           could not accept the checksum of #{context.artifact.asset}

             url       #{context.server.url}#{name}
             expected  the checksum of #{context.artifact.asset}
             actual    the checksum of #{other.asset}

           Run `mix compile` to try again; if it repeats, the release is damaged: report it, and do not go around it.\
           """
  end

  test "the sidecar and signature of another asset are refused by the trusted comment", context do
    other = ReleaseFactory.artifact("cuda12")
    release = ReleaseFactory.publish(other, "its bytes", context.key)

    serve(context, %{
      Artifact.sidecar(context.artifact) => release[Artifact.sidecar(other)],
      Artifact.signature(context.artifact) => release[Artifact.signature(other)]
    })

    assert Exception.message(refused(context, SignatureError)) ==
             message(
               context,
               "the trusted comment file:#{Artifact.sidecar(context.artifact)}",
               "file:#{Artifact.sidecar(other)}"
             )
  end

  test "a sidecar that is no sidecar is refused, though it is signed", context do
    name = Artifact.sidecar(context.artifact)
    text = "<html>not found</html>"
    serve(context, Map.put(sign(context, bytes: text), name, text))
    error = refused(context, SidecarError)

    assert error.expected ==
             "one line: 64 hexadecimal digits, two spaces, #{context.artifact.asset}"

    assert error.actual == inspect(text)
  end

  test "a missing signature is refused", context do
    HttpServer.serve(
      context.server,
      Map.delete(context.release, Artifact.signature(context.artifact))
    )

    assert Exception.message(refused(context, SignatureError)) ==
             message(
               context,
               "a signature beside it",
               "none: the server answered with status 404"
             )
  end

  test "a signature of other bytes is refused", context do
    serve(context, sign(context, bytes: "other bytes"))

    assert Exception.message(refused(context, SignatureError)) ==
             message(
               context,
               "a signature of this very file",
               "one that does not match its bytes"
             )
  end

  test "a signature by another key is refused", context do
    other = ReleaseFactory.key()
    serve(context, sign(context, key: other))

    assert Exception.message(refused(context, SignatureError)) ==
             message(
               context,
               "a signature by the key #{Signature.id(context.key.public.id)}",
               "one by the key #{Signature.id(other.public.id)}"
             )
  end

  test "a signature by another key with our key's identifier is refused", context do
    serve(context, sign(context, key: ReleaseFactory.key(), id: context.key.public.id))

    assert Exception.message(refused(context, SignatureError)) ==
             message(
               context,
               "a signature of this very file",
               "one that does not match its bytes"
             )
  end

  test "a tampered trusted comment is refused", context do
    serve(context, sign(context, shown_comment: "file:anything"))

    assert Exception.message(refused(context, SignatureError)) ==
             message(
               context,
               "a trusted comment that is signed",
               "one that was changed: file:anything"
             )
  end

  test "a signature of the older form, without a prehash, is refused", context do
    serve(context, sign(context, algorithm: "Ed"))

    assert refused(context, SignatureError).expected ==
             "a prehashed minisign signature of four lines"
  end

  test "a signature file that is none is refused", context do
    serve(context, %{Artifact.signature(context.artifact) => "<html></html>"})
    assert refused(context, SignatureError).actual == inspect("<html></html>")
  end

  test "an endless sidecar is cut off", context do
    script(context, %{Artifact.sidecar(context.artifact) => {:endless}})

    assert Exception.message(refused(context, Artifact.HttpError)) == """
           could not download a file of Emily's release: the answer is too large

             url       #{context.server.url}#{Artifact.sidecar(context.artifact)}
             expected  at most 16384 bytes
             actual    more
             attempts  1

           Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`.\
           """
  end
end
