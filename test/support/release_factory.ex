defmodule Emily.Test.ReleaseFactory do
  @moduledoc """
  Throwaway releases: keys, signatures, archives and everything a release's address serves.

  Archives are written here header by header, so that a test can write any entry it likes.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{Checksum, Signature, Targets}

  @zeros :binary.copy(<<0>>, 512)

  @doc "A minisign key pair, and a package's list of that key alone."
  def key do
    {public, secret} = :crypto.generate_key(:eddsa, :ed25519)
    id = :crypto.strong_rand_bytes(8)

    %{
      public: %Signature.PublicKey{id: id, bytes: public},
      secret: secret,
      text: keys([key_entry(%Signature.PublicKey{id: id, bytes: public})])
    }
  end

  @doc "The text of a list of keys."
  def keys(entries), do: JSON.encode!(%{schema: 1, keys: entries})

  @doc "A key's entry in the list; `changes` are put into it."
  def key_entry(%Signature.PublicKey{id: id, bytes: bytes}, changes \\ []) do
    Map.merge(
      %{id: Signature.id(id), public: Base.encode64("Ed" <> id <> bytes), from: "0.0.0-0"},
      Map.new(changes)
    )
  end

  @doc """
  A minisign signature file. `:id` and `:algorithm` replace what the key would put in;
  `:shown_comment` stands where the signed trusted comment should.
  """
  def sign(bytes, key, comment, options \\ []) do
    signature = eddsa(:crypto.hash(:blake2b, bytes), key)
    head = Keyword.get(options, :algorithm, "ED") <> Keyword.get(options, :id, key.public.id)

    Enum.join(
      [
        "untrusted comment: signature of a test",
        Base.encode64(head <> signature),
        "trusted comment: " <> Keyword.get(options, :shown_comment, comment),
        Base.encode64(eddsa(signature <> comment, key))
      ],
      "\n"
    ) <> "\n"
  end

  defp eddsa(message, key), do: :crypto.sign(:eddsa, :none, message, [key.secret, :ed25519])

  @doc "The archive of a variant for this test's machine."
  def artifact(variant \\ "cpu", target \\ "linux-x86_64") do
    {:ok, artifact} = Targets.select(variant, target)
    artifact
  end

  @doc "A host that everything fits, unless the options say otherwise."
  def host(options \\ []) do
    struct!(
      %Artifact.Host{
        os: "linux",
        arch: "x86_64",
        target: "linux-x86_64",
        nif: "2.17",
        otp: "27",
        glibc: "2.41",
        glibcxx: "3.4.33",
        libraries: %{"libc.so.6" => "/lib/libc.so.6"}
      },
      options
    )
  end

  @doc "The files of a small archive, by name. Different seeds give different bytes."
  def files(seed \\ "one") do
    %{
      "libemily.so" => "libemily #{seed} " <> String.duplicate(seed, 3_000),
      "libmlx.so" => "libmlx #{seed} " <> String.duplicate(seed, 9_000),
      "libopenblas.so.0" => "libopenblas #{seed}",
      "LICENSE" => "MIT"
    }
  end

  @doc "The manifest of files, as a map that a test may change before it is encoded."
  def manifest(artifact, files) do
    %{
      "schema" => 1,
      "package" => "emily",
      "version" => artifact.version,
      "variant" => artifact.variant,
      "target" => artifact.target,
      "nif_version" => "2.17",
      "mlx" => %{"version" => "0.32.2", "mlx_c" => "0.7.0", "from" => "wheel"},
      "requires" => requires(artifact.target),
      "files" =>
        for {name, bytes} <- Enum.sort(files) do
          %{"name" => name, "size" => byte_size(bytes), "sha256" => Checksum.of(bytes)}
        end
    }
  end

  defp requires("macos-" <> _processor), do: %{"macos" => "14.0", "libraries" => []}

  defp requires(_linux),
    do: %{"glibc" => "2.35", "glibcxx" => "3.4.30", "libraries" => ["libc.so.6"]}

  @doc "The entries of a proper archive: the manifest, then the files by name."
  def entries(manifest, files) do
    [{"manifest.json", JSON.encode!(manifest), []}] ++
      for {name, bytes} <- Enum.sort(files), do: {name, bytes, mode: mode(name)}
  end

  defp mode(name), do: if(String.contains?(name, ".so"), do: 0o755, else: 0o644)

  @doc "A gzipped tar of `{name, bytes, options}` entries; see `entry/3`."
  def pack(entries) do
    [for({name, bytes, options} <- entries, do: entry(name, bytes, options)), @zeros, @zeros]
    |> IO.iodata_to_binary()
    |> :zlib.gzip()
  end

  @doc "One entry. `:type`, `:link`, `:size` and `:mode` are what its header says."
  def entry(name, bytes, options \\ []) do
    type = Keyword.get(options, :type, ?0)
    size = Keyword.get(options, :size, byte_size(bytes))
    padding = binary_part(@zeros, 0, rem(512 - rem(byte_size(bytes), 512), 512))

    before = [
      field(name, 100),
      octal(Keyword.get(options, :mode, 0o644), 8),
      octal(0, 8),
      octal(0, 8),
      octal(size, 12),
      octal(0, 12)
    ]

    rest = [type, field(Keyword.get(options, :link, ""), 100), "ustar\0" <> "00", field("", 247)]
    sum = Enum.sum(for <<byte <- IO.iodata_to_binary([before, "        ", rest])>>, do: byte)
    [before, octal(sum, 8), rest, bytes, padding]
  end

  defp field(text, width), do: text <> :binary.copy(<<0>>, width - byte_size(text))

  defp octal(number, width) do
    String.pad_leading(Integer.to_string(number, 8), width - 1, "0") <> <<0>>
  end

  @doc "The bytes of a proper archive."
  def archive(artifact, files), do: artifact |> manifest(files) |> entries(files) |> pack()

  @doc """
  What a release's address serves for an archive: a map from name to bytes.
  """
  def publish(artifact, archive, key) do
    sidecar = sidecar(artifact, archive)
    name = Artifact.sidecar(artifact)

    %{
      artifact.asset => archive,
      name => sidecar,
      Artifact.signature(artifact) => sign(sidecar, key, "file:" <> name)
    }
  end

  @doc "The checksum's file, as `sha256sum` writes it."
  def sidecar(artifact, archive), do: "#{Checksum.of(archive)}  #{artifact.asset}\n"
end
