defmodule Emily.Artifact.AgreementTest do
  # Damaged releases, drawn and judged by Rust (xtask/examples/mutants), and judged here again.
  use ExUnit.Case, async: true

  alias Emily.Artifact

  alias Emily.Artifact.{Archive, Checksum, Keyring, Manifest, Signature}
  alias Emily.Test.{InstallCase, ReleaseFactory, Xtask}

  @moduletag timeout: :infinity
  @moduletag skip: Xtask.problem()
  @batch 250

  for {tag, cases} <- [brief: 5_000, fuzz: 1_000_000] do
    @tag tag
    test "both installers say the same of #{cases} damaged releases" do
      cases = unquote(cases)
      program = Xtask.example("mutants")
      seed = if cases > 5_000, do: System.os_time(), else: 20_260
      counts = judge(program, seed, cases)

      # Damage that everybody refuses, or nobody, would prove little.
      for kind <- [:tarball, :sidecar, :signature, :manifest], verdict <- [:accepted, :refused] do
        assert Map.get(counts, {kind, verdict}, 0) > div(cases, 500),
               "seed #{seed}: too few are #{verdict}: #{inspect(counts)}"
      end

      if cases > 5_000, do: IO.puts("\nseed #{seed}: #{inspect(counts)}")
    end
  end

  defp judge(program, seed, cases) do
    folder = memory_folder()
    [theirs, ours] = for name <- ["rust", "elixir"], do: Path.join(folder, name)
    for path <- [theirs, ours], do: File.mkdir_p!(path)

    port =
      Port.open({:spawn_executable, program}, [
        :binary,
        :exit_status,
        packet: 4,
        args: ["#{seed}", theirs]
      ])

    {:ok, key} = Signature.decode_key(packet(port))
    release = {ReleaseFactory.artifact("cpu", "linux-x86_64"), Keyring.of(key), ours}
    batches = div(cases, @batch)
    ask(port)

    counts =
      Enum.reduce(1..batches, %{}, fn batch, counts ->
        cases = packet(port)
        # The next ones are drawn while these are judged.
        if batch < batches, do: ask(port)
        compare(cases, release, counts, seed)
      end)

    Port.close(port)
    counts
  end

  defp ask(port), do: Port.command(port, <<@batch::32>>)

  defp packet(port) do
    receive do
      {^port, {:data, bytes}} -> bytes
      {^port, {:exit_status, status}} -> flunk("the program ended with status #{status}")
    end
  end

  defp compare("", _release, counts, _seed), do: counts

  defp compare(
         <<kind, accepted, said::32, theirs::binary-size(said), size::32,
           bytes::binary-size(size), rest::binary>>,
         release,
         counts,
         seed
       ) do
    kind = Enum.at([nil, :tarball, :sidecar, :signature, :manifest], kind)
    theirs = if accepted == 1, do: {:accepted, theirs}, else: :refused
    ours = with {:error, _error} <- verdict(kind, bytes, release), do: :refused

    if ours != theirs do
      path = Path.join(System.tmp_dir!(), "emily-disagreement-#{kind}-#{:erlang.phash2(bytes)}")
      File.write!(path, bytes)

      flunk("""
      seed #{seed}, #{kind}, kept as #{path}:
      Rust:   #{inspect(theirs)}
      Elixir: #{inspect(verdict(kind, bytes, release))}
      """)
    end

    verdict = if ours == :refused, do: :refused, else: :accepted
    compare(rest, release, Map.update(counts, {kind, verdict}, 1, &(&1 + 1)), seed)
  end

  defp verdict(:sidecar, bytes, {artifact, _keyring, _folder}) do
    with {:ok, digest} <- Checksum.decode_sidecar(bytes, artifact.asset), do: {:accepted, digest}
  end

  defp verdict(
         :signature,
         <<size::32, sidecar::binary-size(size), signature::binary>>,
         {artifact, keyring, _}
       ) do
    name = Artifact.sidecar(artifact)

    with {:ok, _key} <- Keyring.verify(keyring, sidecar, signature, name, artifact.version),
         do: {:accepted, ""}
  end

  defp verdict(:manifest, bytes, {artifact, _keyring, _folder}) do
    with {:ok, manifest} <- Manifest.decode(bytes),
         :ok <- Manifest.check(manifest, artifact) do
      {:accepted, understood(manifest)}
    end
  end

  defp verdict(:tarball, bytes, {artifact, _keyring, folder}) do
    path = Path.join(folder, "case.tar.gz")
    into = Path.join(folder, "into")
    File.write!(path, bytes, [:raw])
    File.mkdir!(into)
    result = Archive.unpack(path, into, artifact, fn _manifest -> :ok end)
    written = Enum.sort(File.ls!(into))

    assert written -- artifact.files == [], "wrote what is not listed"
    assert Enum.sort(File.ls!(folder)) == ["case.tar.gz", "into"], "wrote elsewhere"

    text =
      Enum.map_join(written, "\n", &"#{&1} #{Checksum.of(File.read!(Path.join(into, &1)))}")

    for name <- written, do: File.rm!(Path.join(into, name))
    File.rmdir!(into)
    with {:ok, _manifest} <- result, do: {:accepted, text}
  end

  defp understood(%Manifest{requires: requires} = manifest) do
    floors = for floor <- [requires.glibc, requires.glibcxx, requires.macos], do: floor || "-"
    head = Enum.join([manifest.nif_version | floors] ++ requires.libraries, " ")
    Enum.join([head | for(f <- manifest.files, do: "#{f.name} #{f.size} #{f.sha256}")], "\n")
  end

  # A million small files would keep a disk busy for nothing.
  defp memory_folder do
    if File.dir?("/dev/shm") do
      folder = "/dev/shm/emily-agreement-#{System.pid()}-#{System.unique_integer([:positive])}"
      File.mkdir_p!(folder)
      on_exit(fn -> File.rm_rf!(folder) end)
      folder
    else
      InstallCase.temporary_folder()
    end
  end
end
