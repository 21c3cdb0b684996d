Code.require_file("machine.exs", __DIR__)

defmodule Emily.Doctor.Platforms do
  @moduledoc """
  A machine for each variant and target that there is a release for, and what goes wrong on such
  machines. `test/golden/doctor/` has the doctor's words on each.
  """

  alias Emily.Artifact.{Checksum, Cuda, Host, Targets}
  alias Emily.Doctor.Machine

  @doc "The variants and targets of all releases."
  def all do
    for variant <- Targets.variants(),
        target <- Targets.variant!(variant)["targets"],
        do: {variant, target}
  end

  @doc "The machine for a variant and a target, with everything in its place."
  def well(tmp, {variant, target}) do
    {:ok, entry} = Targets.fetch(target)
    nvidia = Path.join(tmp, "nvidia")
    needed = needed(variant, target)

    host = %{
      host(entry, target)
      | libraries: Map.new(needed, &{&1, "/lib/" <> &1}),
        cuda_paths: if(Cuda.needs(variant), do: [nvidia], else: [])
    }

    if needs = Cuda.needs(variant) do
      File.mkdir_p!(Path.join(nvidia, "include"))

      for %{name: name} <- needs.headers,
          do: File.write!(Path.join([nvidia, "include", name]), "")
    end

    devices = Enum.map(Targets.variant!(variant)["devices"], &String.to_atom/1)

    Machine.at(tmp, manifest(variant, target, entry, needed),
      host: host,
      variant: {:ok, variant},
      info: fn -> {:ok, %{mlx: "0.32.2", devices: devices}} end,
      smoke: fn _device -> {:ok, {[54.0], [54.0]}} end,
      mapped_libraries: fn -> mapped(entry) end,
      compiler: fn -> compiler(entry) end
    )
  end

  defp host(%{"os" => "macos"} = entry, target) do
    %Host{os: "macos", arch: entry["arch"], target: target, nif: "2.17", otp: "27", macos: "26.4"}
  end

  defp host(entry, target) do
    %Host{
      os: "linux",
      arch: entry["arch"],
      target: target,
      nif: "2.17",
      otp: "27",
      glibc: "2.41",
      glibcxx: "3.4.33"
    }
  end

  defp needed(variant, target) do
    own = for name <- Targets.system_libraries(variant, target), name =~ ~r/^lib/, do: name
    nvidia = if needs = Cuda.needs(variant), do: Enum.map(needs.libraries, & &1.name), else: []
    Enum.uniq(own ++ nvidia)
  end

  # What a release may ask for at most, it asks for here.
  defp manifest(variant, target, entry, needed) do
    floors = Targets.floors(variant)
    binary? = &(&1 =~ ~r/\.(so|dylib|metallib)(\.|$)/)
    names = for name <- Targets.variant!(variant)["files"], binary?.(name), do: name
    library = entry["library"]

    %{
      Machine.manifest()
      | variant: variant,
        target: target,
        requires: %{
          glibc: floors["glibc"],
          glibcxx: floors["glibcxx"],
          macos: floors["macos"],
          libraries: needed
        },
        files:
          for name <- Enum.sort(Enum.uniq([library | names])) do
            content = Machine.content(name)
            %{name: name, size: byte_size(content), sha256: Checksum.of(content)}
          end
    }
  end

  defp mapped(%{"os" => "macos"}), do: []
  defp mapped(_entry), do: ["/lib/libc.so.6", "/app/priv/libopenblas.so.0"]

  defp compiler(%{"os" => "macos"}), do: "Apple clang version 17.0.0"
  defp compiler(_entry), do: "g++ (Debian 14.2.0-19) 14.2.0"

  @doc "What may be wrong with a machine: a name, and what makes it so."
  def troubles({variant, target}) do
    {:ok, %{"os" => os}} = Targets.fetch(target)

    everywhere() ++
      if(os == "linux", do: linux(), else: macos()) ++
      if(Cuda.needs(variant), do: cuda(variant), else: []) ++
      if("gpu" in Targets.variant!(variant)["devices"], do: gpu(), else: [])
  end

  defp everywhere do
    [
      {"nothing installed", &tap(&1, fn machine -> File.rm_rf!(machine.priv) end)},
      {"a damaged file", &damaged/1},
      {"a checksum that was changed", &changed_checksum/1},
      {"a package without keys", &%{&1 | keyring: Emily.Artifact.Keyring.decode(nil)}},
      {"a variant for other machines", &%{&1 | variant: {:ok, "risc"}}},
      {"an old VM", &%{put_in(&1.host.otp, "26") | elixir: "1.17.3"}},
      {"another user's cache", &%{&1 | user_id: &1.user_id + 1}},
      {"a full disk", &%{&1 | free_bytes: fn _cache -> {:ok, 5 * 1024 ** 2} end}},
      {"a library that does not load",
       &%{&1 | load: fn -> {:error, "undefined symbol: _ZN3mlx4core5arrayE"} end}},
      {"wrong results", &%{&1 | smoke: fn _device -> {:ok, {[54.0], [0.0]}} end}},
      {"no C++ compiler", &%{&1 | compiler: fn -> nil end}}
    ]
  end

  defp damaged(machine) do
    library = machine.priv |> Path.join("libemily.*") |> Path.wildcard() |> hd()
    File.write!(library, "the libr")
    machine
  end

  defp changed_checksum(machine) do
    {:ok, cache} = machine.cache
    [sidecar] = Path.wildcard(Path.join(cache.root, "*.sha256"))

    File.write!(
      sidecar,
      String.replace(File.read!(sidecar), ~r/^.{64}/, String.duplicate("0", 64))
    )

    machine
  end

  defp linux do
    [
      {"an old system", &%{&1 | host: %{&1.host | glibc: "2.31", glibcxx: "3.4.28"}}},
      {"musl in place of glibc",
       &%{&1 | host: %{&1.host | glibc: nil, glibcxx: nil, libraries: %{}}}},
      {"no C++ library", &without(&1, ["libstdc++.so.6"])},
      {"a slow BLAS", &slow/1}
    ]
  end

  defp slow(machine) do
    %{
      machine
      | matmul_rates: fn -> %{matmul: 5.0, elementwise: 3.5} end,
        mapped_libraries: fn -> ["/usr/lib/x86_64-linux-gnu/blas/libblas.so.3"] end
    }
  end

  defp macos do
    [
      {"an old system", &put_in(&1.host.macos, "13.6")},
      {"Erlang for Intel", &%{&1 | host: %{&1.host | arch: "x86_64", target: nil}}}
    ]
  end

  defp gpu do
    [{"no GPU", &%{&1 | info: fn -> {:ok, %{mlx: "0.32.2", devices: [:cpu]}} end}}]
  end

  defp cuda(variant) do
    names = Enum.map(Cuda.needs(variant).libraries, & &1.name)

    [
      {"no driver", &without(&1, ["libcuda.so.1"])},
      {"no CUDA", &without(put_in(&1.host.cuda_paths, []), names)},
      {"no headers", &put_in(&1.host.cuda_paths, [])}
    ]
  end

  defp without(machine, names), do: update_in(machine.host.libraries, &Map.drop(&1, names))
end
