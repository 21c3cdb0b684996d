defmodule Emily.Artifact.ArchiveTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact.{ArchiveError, ManifestError, Tar}

  # Publishes a signed archive whose bytes the function makes out of the proper entries.
  defp publish(context, change) do
    manifest = ReleaseFactory.manifest(context.artifact, context.files)
    entries = ReleaseFactory.entries(manifest, context.files)
    republish(context, change.(entries))
  end

  defp append(context, entry), do: publish(context, &ReleaseFactory.pack(&1 ++ [entry]))

  defp replace(entries, name, entry) do
    Enum.map(entries, fn {entry_name, _, _} = old ->
      if entry_name == name, do: entry, else: old
    end)
  end

  defp path(context), do: Path.join(context.cache, "v1/#{context.artifact.asset}")

  @refused_entries [
    {"an absolute path", {"/etc/passwd", "x", []}, "a plain file name", "an absolute path"},
    {"a path through ..", {"../libemily.so", "x", []}, "a plain file name", "a path through .."},
    {"a deep path through ..", {"lib/../../x", "x", []}, "a plain file name",
     "a path through .."},
    {"a path with folders", {"lib/libemily.so", "x", []}, "a plain file name",
     "a path with folders"},
    {"a symbolic link", {"THIRD-PARTY", "", type: ?2, link: "/etc/passwd"}, "a regular file",
     "a symbolic link"},
    {"a hard link", {"THIRD-PARTY", "", type: ?1, link: "libemily.so"}, "a regular file",
     "a hard link"},
    {"a character device", {"THIRD-PARTY", "", type: ?3}, "a regular file", "a character device"},
    {"a block device", {"THIRD-PARTY", "", type: ?4}, "a regular file", "a block device"},
    {"a folder", {"lib", "", type: ?5}, "a regular file", "a folder"},
    {"a named pipe", {"THIRD-PARTY", "", type: ?6}, "a regular file", "a named pipe"},
    {"a GNU long name", {"././@LongLink", "libemily.so", type: ?L}, "a regular file",
     "a GNU long name"},
    {"an extended header", {"PaxHeader", "path=x", type: ?x}, "a regular file",
     "an extended header"},
    {"a sparse file", {"THIRD-PARTY", "", type: ?S}, "a regular file", "a sparse file"},
    {"an unknown kind", {"THIRD-PARTY", "", type: ?Z}, "a regular file",
     "an entry of unknown type 90"},
    {"a duplicate", {"libemily.so", "x", []}, "every entry once", "a duplicate"},
    {"a second manifest", {"manifest.json", "{}", []}, "every entry once", "a duplicate"},
    {"an unlisted file", {"evil.so", "x", []}, "a file of the allow-list", "an unlisted file"},
    {"no name", {"", "x", []}, "a file of the allow-list", "an unlisted file"},
    {"a file that the manifest lacks", {"THIRD-PARTY", "x", []}, "a file of the manifest",
     "a file that it does not list"}
  ]

  for {what, entry, expected, actual} <- @refused_entries do
    test "with #{what} is refused", context do
      {name, _bytes, _options} = entry = unquote(Macro.escape(entry))
      append(context, entry)
      error = refused(context, ArchiveError)
      entry_line = if name == "", do: "  entry     \n", else: "  entry     #{name}\n"

      assert Exception.message(error) ==
               "could not unpack #{context.artifact.asset}\n\n" <>
                 "  path      #{path(context)}\n" <>
                 entry_line <>
                 "  expected  #{unquote(expected)}\n" <>
                 "  actual    #{unquote(actual)}\n\n" <>
                 "The release is damaged: report it, and do not unpack it by hand."
    end
  end

  test "with a name that is no text is refused, and shown harmlessly", context do
    append(context, {"\e[2J" <> <<255>>, "x", []})
    error = refused(context, ArchiveError)
    assert error.entry == inspect("\e[2J" <> <<255>>)
    assert error.actual == "an unlisted file"
  end

  describe "a file's size and content" do
    test "larger than the manifest says is refused before it is read", context do
      publish(context, fn entries ->
        ReleaseFactory.pack(replace(entries, "LICENSE", {"LICENSE", "MIT and more", []}))
      end)

      assert %{entry: "LICENSE", expected: "3 bytes", actual: "12 bytes"} =
               refused(context, ArchiveError)
    end

    test "smaller than the manifest says is refused", context do
      publish(context, fn entries ->
        ReleaseFactory.pack(replace(entries, "LICENSE", {"LICENSE", "MI", []}))
      end)

      assert %{entry: "LICENSE", expected: "3 bytes", actual: "2 bytes"} =
               refused(context, ArchiveError)
    end

    test "of another digest is refused", context do
      publish(context, fn entries ->
        ReleaseFactory.pack(replace(entries, "LICENSE", {"LICENSE", "BSD", []}))
      end)

      error = refused(context, ArchiveError)
      assert error.entry == "LICENSE"
      assert error.expected == "sha256 " <> Emily.Artifact.Checksum.of("MIT")
      assert error.actual == "sha256 " <> Emily.Artifact.Checksum.of("BSD")
    end

    test "missing from the archive is refused", context do
      publish(context, fn entries -> ReleaseFactory.pack(List.delete_at(entries, 1)) end)

      assert %{entry: "LICENSE", expected: "every file of the manifest", actual: "no such entry"} =
               refused(context, ArchiveError)
    end

    test "beyond the end of the tar is refused", context do
      publish(context, fn entries ->
        entries =
          replace(
            entries,
            "libopenblas.so.0",
            {"libopenblas.so.0", "libopenblas one", size: 8_000}
          )

        ReleaseFactory.pack(entries)
      end)

      assert %{entry: "libopenblas.so.0", actual: "8000 bytes"} = refused(context, ArchiveError)
    end
  end

  describe "the manifest" do
    test "must come first", context do
      publish(context, fn [manifest | rest] -> ReleaseFactory.pack(rest ++ [manifest]) end)

      assert %{entry: "LICENSE", expected: "manifest.json as the first entry", actual: "LICENSE"} =
               refused(context, ArchiveError)
    end

    test "must be there", context do
      publish(context, fn [_manifest | rest] -> ReleaseFactory.pack(rest) end)
      assert refused(context, ArchiveError).expected == "manifest.json as the first entry"
    end

    test "must be there even in an empty archive", context do
      publish(context, fn _entries -> ReleaseFactory.pack([]) end)
      assert refused(context, ArchiveError).actual == "no entry"
    end

    test "must be a regular file", context do
      link = {"manifest.json", "", type: ?2, link: "/etc/passwd"}
      publish(context, fn [_manifest | rest] -> ReleaseFactory.pack([link | rest]) end)
      assert %{entry: "manifest.json", actual: "a symbolic link"} = refused(context, ArchiveError)
    end

    test "must be small", context do
      manifest = {"manifest.json", String.duplicate(" ", 1_048_577), []}
      publish(context, fn [_manifest | rest] -> ReleaseFactory.pack([manifest | rest]) end)

      assert %{expected: "at most 1048576 bytes", actual: "1048577 bytes"} =
               refused(context, ArchiveError)
    end

    test "must be for this archive", context do
      other = %{context.artifact | variant: "cuda12"}
      manifest = ReleaseFactory.manifest(other, context.files)
      republish(context, ReleaseFactory.pack(ReleaseFactory.entries(manifest, context.files)))
      error = refused(context, ManifestError)

      assert Exception.message(error) == """
             could not accept manifest.json

               path      #{path(context)}
               field     variant
               expected  cpu
               actual    cuda12

             Run `mix compile.emily --force` to install again, and report it if it repeats.\
             """
    end
  end

  describe "the file itself" do
    test "must be gzip", context do
      republish(context, "no gzip at all")
      assert %{expected: "a gzip file", actual: "damaged data"} = refused(context, ArchiveError)
    end

    test "must be a complete gzip file", context do
      publish(context, fn entries ->
        archive = ReleaseFactory.pack(entries)
        binary_part(archive, 0, byte_size(archive) - 8)
      end)

      assert %{actual: "one that ends early"} = refused(context, ArchiveError)
    end

    test "must have gzip's own checksum right", context do
      publish(context, fn entries ->
        archive = ReleaseFactory.pack(entries)
        binary_part(archive, 0, byte_size(archive) - 8) <> <<0::64>>
      end)

      assert %{expected: "a gzip file", actual: "damaged data"} = refused(context, ArchiveError)
    end

    test "must be a complete tar", context do
      publish(context, fn entries ->
        tar = entries |> ReleaseFactory.pack() |> :zlib.gunzip()
        :zlib.gzip(binary_part(tar, 0, byte_size(tar) - 1_024))
      end)

      assert %{expected: "a complete archive", actual: "one that ends early"} =
               refused(context, ArchiveError)
    end

    test "must not be followed by another stream", context do
      publish(context, fn entries -> ReleaseFactory.pack(entries) <> :zlib.gzip("more") end)
      assert %{expected: "a gzip file", actual: "damaged data"} = refused(context, ArchiveError)
    end

    test "must not hold anything after the tar's end", context do
      publish(context, fn entries ->
        tar = entries |> ReleaseFactory.pack() |> :zlib.gunzip()
        :zlib.gzip(tar <> "more")
      end)

      assert %{expected: "nothing after the last entry", actual: "more bytes"} =
               refused(context, ArchiveError)
    end

    test "may be padded to a tar record", context do
      publish(context, fn entries ->
        tar = entries |> ReleaseFactory.pack() |> :zlib.gunzip()
        :zlib.gzip(tar <> :binary.copy(<<0>>, 8_192))
      end)

      assert {:ok, _manifest} = install(context)
    end

    test "must have proper headers", context do
      publish(context, fn [{name, bytes, options} | _rest] ->
        :zlib.gzip([ReleaseFactory.entry(name, bytes, options), :binary.copy("x", 4_096)])
      end)

      assert %{expected: "a tar header", actual: "a header whose checksum is no octal number"} =
               refused(context, ArchiveError)
    end

    test "may be what GNU tar and gzip make", context do
      dir = Path.join(context.dir, "made")
      File.mkdir_p!(dir)
      manifest = JSON.encode!(ReleaseFactory.manifest(context.artifact, context.files))

      for {name, bytes} <- Map.put(context.files, "manifest.json", manifest),
          do: File.write!(Path.join(dir, name), bytes)

      names = ["manifest.json" | Enum.sort(Map.keys(context.files))]
      {_, 0} = System.cmd("tar", ["--format=gnu", "-czf", "a.tar.gz" | names], cd: dir)
      republish(context, File.read!(Path.join(dir, "a.tar.gz")))
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
    end
  end

  describe "a gzip bomb" do
    # A thousand to one: 16 MB of zeros.
    @bomb 16_000_000

    test "in place of the manifest is not inflated", context do
      zeros = :binary.copy(<<0>>, @bomb)
      republish(context, ReleaseFactory.pack([{"manifest.json", zeros, []}]))
      assert %{expected: "at most 1048576 bytes"} = refused(context, ArchiveError)
    end

    test "in place of a file is not inflated", context do
      zeros = :binary.copy(<<0>>, @bomb)

      publish(context, fn entries ->
        ReleaseFactory.pack(replace(entries, "LICENSE", {"LICENSE", zeros, []}))
      end)

      assert %{expected: "3 bytes", actual: "16000000 bytes"} = refused(context, ArchiveError)
    end

    test "after the end is not inflated", context do
      publish(context, fn entries ->
        tar = entries |> ReleaseFactory.pack() |> :zlib.gunzip()
        :zlib.gzip([tar, :binary.copy(<<0>>, @bomb)])
      end)

      assert %{expected: "nothing after the last entry"} = refused(context, ArchiveError)
    end

    test "that the manifest admits to is refused by its manifest", context do
      manifest = ReleaseFactory.manifest(context.artifact, context.files)

      files = [
        %{"name" => "libemily.so", "size" => 4_294_967_297, "sha256" => String.duplicate("0", 64)}
      ]

      republish(
        context,
        ReleaseFactory.pack(ReleaseFactory.entries(%{manifest | "files" => files}, context.files))
      )

      error = refused(context, ManifestError)

      assert {error.expected, error.actual} ==
               {"at most 4294967296 bytes together", "4294967297 bytes"}
    end
  end

  describe "Tar.decode/1" do
    test "reads what the factory writes, and refuses what is damaged" do
      header =
        "a" |> ReleaseFactory.entry("bytes") |> IO.iodata_to_binary() |> binary_part(0, 512)

      assert Tar.decode(header) == {:ok, %{name: "a", kind: :file, size: 5, mode: 0o644}}
      assert Tar.decode(:binary.copy(<<0>>, 512)) == :end
      <<_a, rest::binary>> = header
      assert Tar.decode("b" <> rest) == {:error, "a header whose checksum does not match"}

      assert Tar.decode(:binary.copy("x", 512)) ==
               {:error, "a header whose checksum is no octal number"}
    end
  end
end
