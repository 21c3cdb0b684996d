defmodule Emily.Doctor.Machine do
  @moduledoc """
  A machine on which Emily is installed and well, in a temporary folder: real files, a real
  signature by a throwaway key, and stand-ins for what would need the native library.

  It is a Linux machine with the variant `cpu`, unless `at/3` is told of another one.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{Cache, Checksum, Host, Keyring, Manifest, Signature, Targets}
  alias Emily.Doctor.Environment

  @doc "The machine; `changes` replace fields of the environment."
  def well(tmp, changes \\ []), do: at(tmp, manifest(), changes)

  @doc "The machine that a manifest is installed on."
  def at(tmp, manifest, changes) do
    {public, secret} = :crypto.generate_key(:eddsa, :ed25519)
    key = %Signature.PublicKey{id: "emilykey", bytes: public}
    {:ok, artifact} = Targets.select(manifest.variant, manifest.target)
    cache = %Cache{folder: Path.join(tmp, "cache"), root: Path.join(tmp, "cache/v1")}
    priv = Path.join(tmp, "priv")

    install(priv, manifest)
    fill(cache, artifact, manifest, {key, secret})

    struct!(
      %Environment{
        version: "0.8.0",
        elixir: "1.18.3",
        host: host(),
        variant: {:ok, nil},
        priv: priv,
        checkout?: false,
        reinstall: "mix compile.emily --force",
        build: "build it",
        cache: {:ok, cache},
        user_id: user_id(),
        free_bytes: fn _cache -> {:ok, 21 * 1024 ** 3} end,
        keyring: {:ok, Keyring.of(key)},
        load: fn -> :ok end,
        info: fn -> {:ok, %{mlx: "0.32.2", devices: [:cpu]}} end,
        smoke: fn :cpu -> {:ok, {[54.0], [54.0]}} end,
        backend: fn -> {:ok, ["order", "windows"], []} end,
        matmul_rates: fn -> %{matmul: 70.0, elementwise: 3.5} end,
        mapped_libraries: fn -> ["/lib/libc.so.6", "/app/priv/libopenblas.so.0"] end,
        compiler: fn -> "g++ (Debian 14.2.0-19) 14.2.0" end
      },
      changes
    )
  end

  @doc "This user's number, which takes a program to tell: asked for once."
  def user_id do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      tap(Cache.user_id(), &:persistent_term.put(__MODULE__, &1))
    end
  end

  @doc "The facts that a check gets from those that passed before it on this machine."
  def facts(environment) do
    {:ok, artifact} = Targets.select("cpu", "linux-x86_64")
    {:ok, cache} = environment.cache

    %{
      selection: %{artifact: artifact, devices: ["cpu"]},
      cache: %{cache: cache},
      files: %{origin: :release, manifest: manifest()},
      devices: %{devices: [:cpu]}
    }
  end

  def host do
    %Host{
      os: "linux",
      arch: "x86_64",
      target: "linux-x86_64",
      nif: "2.17",
      otp: "27",
      glibc: "2.41",
      glibcxx: "3.4.33",
      libraries: %{"libc.so.6" => "/lib/libc.so.6", "libstdc++.so.6" => "/lib/libstdc++.so.6"}
    }
  end

  def manifest do
    %Manifest{
      version: Targets.version(),
      variant: "cpu",
      target: "linux-x86_64",
      nif_version: "2.17",
      mlx: %{"version" => "0.32.2", "mlx_c" => "0.7.0", "from" => "wheel"},
      requires: %{
        glibc: "2.35",
        glibcxx: "3.4.30",
        macos: nil,
        libraries: ["libc.so.6", "libstdc++.so.6"]
      },
      files:
        for name <- ["libemily.so", "libmlx.so"] do
          %{name: name, size: byte_size(content(name)), sha256: Checksum.of(content(name))}
        end
    }
  end

  @doc "What a file of the releases holds here."
  def content("libemily." <> _), do: "the library"
  def content(_name), do: "MLX itself"

  @doc "Writes a manifest, and its files, into a folder."
  def install(priv, manifest) do
    File.mkdir_p!(priv)
    for %{name: name} <- manifest.files, do: File.write!(Path.join(priv, name), content(name))
    File.write!(Path.join(priv, "manifest.json"), text(manifest))
  end

  defp text(manifest) do
    manifest |> Map.from_struct() |> Map.merge(%{schema: 1, package: "emily"}) |> JSON.encode!()
  end

  defp fill(cache, artifact, manifest, {key, secret}) do
    File.mkdir_p!(cache.root)
    archive = Cache.archive(cache, artifact)
    files = for %{name: name} <- manifest.files, do: {name, content(name)}
    entries = [{"manifest.json", text(manifest)} | files]

    :ok =
      :erl_tar.create(
        String.to_charlist(archive),
        for({name, content} <- entries, do: {String.to_charlist(name), content}),
        [:compressed]
      )

    {:ok, digest} = Checksum.file(archive)
    line = "#{digest}  #{artifact.asset}\n"
    name = Artifact.sidecar(artifact)
    File.write!(Cache.sidecar(cache, artifact), line)
    File.write!(Cache.signature(cache, artifact), sign(line, name, key, secret))
  end

  defp sign(bytes, name, key, secret) do
    sign = &:crypto.sign(:eddsa, :none, &1, [secret, :ed25519])
    signature = sign.(:crypto.hash(:blake2b, bytes))
    comment = "file:#{name}"

    """
    untrusted comment: a throwaway key's
    #{Base.encode64("ED" <> key.id <> signature)}
    trusted comment: #{comment}
    #{Base.encode64(sign.(signature <> comment))}
    """
  end
end
